"""Rerankers: the trained bridge combined with further evidence. Nothing is trained for them.

`KNNInterpolation` mixes the bridge's probabilities with the votes of nearest neighbours:

    p(t | h, r) = (1 - sum_s m_s) p_bridge(t | h, r) + sum_s m_s vote_s(t | h, r)

`vote_s` is the share of the weighted votes in space s that are for t. The votes are the facts of
the training heads nearest to h among the frozen embeddings (s = source) or in the bridged space
(bridged), or h's own facts, for tails similar to theirs (tails). The bridge generalises over
relations and knows the tails; the neighbours are exact about nodes that resemble known ones.

`BidirectionalScorer` combines the bridge's scores of a query and of its reverse:

    log p(t | h, r) + w (log p(h | t, r⁻¹) + log p(t))

The second term is Bayes' rule on the bridge's answer to the reverse query. p(t) is 1 + the number
of training facts of the tail, up to a factor that is the same for all tails.

The weights m and w of each triple type are selected by MRR on the validation split.

References:
  Khandelwal et al., "Generalization through memorization: nearest neighbor language models", ICLR
  2020.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.errors import unknown
from bridge_jax.evaluation.baselines.head_knn import HeadKNN
from bridge_jax.evaluation.baselines.popularity import log_tail_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries
from bridge_jax.models.scorer import BridgeScorer

KNN_SPACES = ("source", "bridged", "tails")
KNN_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)
REVERSE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
_BLOCK = 2048  # tails scored at a time


@runtime_checkable
class Voter(Protocol):
    """A model that gives votes to tails, e.g. `HeadKNN` or `TailKNN`."""

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail of each head, at least 0."""


class KNNInterpolation:
    """Scorer that interpolates the bridge with the votes of nearest neighbours.

        p(t | h, r) = (1 - sum_s m_s) p_bridge(t | h, r) + sum_s m_s vote_s(t | h, r)

    Attributes:
      weights: Weights m of each triple type, one per space; all 0 is the bridge alone.
    """

    name = "bridge + kNN"

    def __init__(self, graph: Graph, voters: Sequence[Voter], bridge: Scorer) -> None:
        """Selects the weights on the validation split.

        Args:
          graph: The split graph.
          voters: One voter per space.
          bridge: The trained bridge; its scores are logits.
        """
        self._voters, self._bridge = voters, bridge
        self.weights: dict[TripleType, tuple[float, ...]] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            heads = np.unique(queries.heads)
            evidence = self._evidence(triple_type, heads) if len(heads) else ()
            self.weights[triple_type] = select_by_mrr(
                _weight_grid(len(voters)),
                partial(_precomputed_scorer, heads, evidence),
                triple_type,
                queries,
                known,
            )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the log-probability of every tail for each head."""
        weights = jnp.float32(self.weights[triple_type])
        return _interpolate(*self._evidence(triple_type, heads), weights)

    def _evidence(
        self, triple_type: TripleType, heads: np.ndarray
    ) -> tuple[Float[Array, "b nodes"], Float[Array, "spaces b nodes"]]:
        """Returns the logits of the bridge and the votes in each space."""
        votes = jnp.stack([voter.votes(triple_type, heads) for voter in self._voters])
        return self._bridge(triple_type, heads), votes


class BidirectionalScorer:
    """Scorer that adds the bridge's score of the reverse query to that of the query.

        log p(t | h, r) + w (log p(h | t, r⁻¹) + log p(t))

    Attributes:
      weights: Weight w of each triple type; 0 is the bridge alone.
    """

    name = "bidirectional"

    def __init__(self, graph: Graph, bridge: BridgeScorer) -> None:
        """Selects the weights on the validation split.

        Args:
          graph: The split graph.
          bridge: The trained bridge.
        """
        self._bridge = bridge
        self._log_counts = log_tail_counts(graph.pairs(["train"]), graph)
        self._cached_queries: dict[TripleType, tuple[Array, Array]] = {}
        self.weights: dict[TripleType, float] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            self.weights[triple_type] = select_by_mrr(
                REVERSE_WEIGHTS, self._scorer, triple_type, queries, known
            )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[Array, "n tails"]:
        """Scores every tail for each head."""
        return self._score(triple_type, heads, self.weights[triple_type])

    def _scorer(self, weight: float) -> Scorer:
        """Returns the model with one weight for all triple types."""
        return partial(self._score, weight=weight)

    def _score(self, triple_type: TripleType, heads: np.ndarray, weight: float) -> Array:
        forward = jax.nn.log_softmax(self._bridge(triple_type, heads), axis=1)
        if not weight:
            return forward
        queries, bias = self._reverse_queries(triple_type)
        reverse = self._bridge.scale * self._bridge.tails(triple_type.head)[heads] @ queries.T
        return forward + jnp.float32(weight) * (reverse + bias)

    def _reverse_queries(
        self, triple_type: TripleType
    ) -> tuple[Float[Array, "tails d"], Float[Array, " tails"]]:
        """Returns every tail as a query of the reverse triple type, and a bias.

        The bias of a tail is what its cosines with the heads lack to be log p(h | t, r⁻¹) p(t).
        """
        if triple_type not in self._cached_queries:
            reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
            tails = np.arange(len(self._log_counts[triple_type]), dtype=np.int32)
            blocks = [tails[start : start + _BLOCK] for start in range(0, len(tails), _BLOCK)]
            queries = jnp.concatenate([self._bridge.heads(reverse, b) for b in blocks])
            log_totals = [jax.nn.logsumexp(self._bridge(reverse, b), axis=1) for b in blocks]
            bias = jnp.asarray(self._log_counts[triple_type]) - jnp.concatenate(log_totals)
            # Only the last triple type is kept: they are ranked in turn.
            self._cached_queries = {triple_type: (queries, bias)}
        return self._cached_queries[triple_type]


def bridged_head_knn(
    graph: Graph, train: Mapping[TripleType, Pairs], bridge: BridgeScorer
) -> HeadKNN:
    """Returns `HeadKNN` in the bridged space instead of the frozen embeddings."""
    return HeadKNN(graph, {}, train, {"bridged": bridge.heads})


def check_spaces(names: Sequence[str]) -> None:
    """Checks that `evaluate.knn_spaces` names one or more of `KNN_SPACES`.

    Raises:
      InputError: A name is unknown, or there is none.
    """
    for name in names or ("",):
        if name not in KNN_SPACES:
            raise unknown("evaluate.knn_spaces", name, KNN_SPACES, "this version")


def _weight_grid(num_spaces: int) -> list[tuple[float, ...]]:
    """Returns the weights to select from: a total, shared equally by one or more spaces."""
    spaces = range(num_spaces)
    subsets = [subset for n in spaces for subset in combinations(spaces, n + 1)]
    grid = [
        tuple(total / len(subset) * (space in subset) for space in spaces)
        for total in KNN_WEIGHTS[1:]
        for subset in subsets
    ]
    return [(0.0,) * num_spaces, *grid]


def _precomputed_scorer(
    heads: np.ndarray, evidence: tuple[Array, ...], weights: tuple[float, ...]
) -> Scorer:
    """Returns the interpolation under some weights, for heads (ascending) with known evidence."""
    scores = _interpolate(*evidence, jnp.float32(weights))
    return lambda _, batch: scores[np.searchsorted(heads, batch)]


@jax.jit
def _interpolate(
    logits: Float[Array, "b n"],
    votes: Float[Array, "spaces b n"],
    weights: Float[Array, " spaces"],
) -> Float[Array, "b n"]:
    share = votes / jnp.maximum(votes.sum(axis=2, keepdims=True), 1e-12)
    log_bridge = jax.nn.log_softmax(logits, axis=1) + jnp.log1p(-weights.sum())
    return jnp.logaddexp(log_bridge, jnp.log(jnp.einsum("s,sbn->bn", weights, share)))
