"""A memory: the bridge's answer mixed with those of the nearest training heads.

    p(t | h, r) = (1 - sum m_s) p_bridge(t | h, r) + sum over s of m_s vote_s(t | h, r)

`vote` is the share of weighted neighbours' facts that name t: facts of the training heads nearest
to h among the frozen embeddings (s = source) or where the bridge puts them (bridged), or h's own
facts, with tails like t (tails). The mixing weights m of each triple type are chosen on the
validation split by MRR. The bridge generalises over relations and knows the tails; the memory is
exact about nodes that it knows the like of. Nothing is trained for it.

Source: Khandelwal et al., "Generalization through memorization: nearest neighbor language models",
ICLR 2020.
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
from bridge_jax.evaluation.baselines.popularity import log_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries
from bridge_jax.models.scorer import BridgeScorer

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)
SPACES = ("source", "bridged", "tails")
REVERSE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
_BLOCK = 2048  # tails scored at a time


@runtime_checkable
class Voter(Protocol):
    """What votes in a memory, e.g. `Nearest` or `Similar`."""

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """What speaks for every tail of each head; at least 0."""


class KNNInterpolation:
    """The bridge and the nearest training heads of each space, interpolated; a scorer.

    Attributes:
      weights: m of each triple type, one for each space; all 0 is the bridge alone.
    """

    name = "bridge + kNN"

    def __init__(self, graph: Graph, voters: Sequence[Voter], bridge: Scorer) -> None:
        """Choose the weights on the validation split.

        Args:
          graph: the split graph.
          voters: one for each space.
          bridge: the trained bridge; its scores are logits.
        """
        self._voters, self._bridge = voters, bridge
        self.weights: dict[TripleType, tuple[float, ...]] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            heads = np.unique(queries.heads)
            parts = self._parts(triple_type, heads) if len(heads) else ()
            settings = _settings(len(voters))
            mixed = partial(_looked_up, heads, parts)
            self.weights[triple_type] = select_by_mrr(settings, mixed, triple_type, queries, known)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Log-probability of every tail for each head."""
        return _mix(*self._parts(triple_type, heads), jnp.float32(self.weights[triple_type]))

    def _parts(
        self, triple_type: TripleType, heads: np.ndarray
    ) -> tuple[Float[Array, "b nodes"], Float[Array, "spaces b nodes"]]:
        votes = jnp.stack([v.votes(triple_type, heads) for v in self._voters])
        return self._bridge(triple_type, heads), votes


def bridged(graph: Graph, train: Mapping[TripleType, Pairs], bridge: BridgeScorer) -> HeadKNN:
    """Nearest training heads where the bridge puts them."""
    return HeadKNN(graph, {}, train, {"bridged": bridge.heads})


def check_spaces(names: Sequence[str]) -> None:
    """See that `evaluate.knn_spaces` names one or more of `SPACES`.

    Raises:
      InputError: the name, and those there are.
    """
    for name in names or ("",):
        if name not in SPACES:
            raise unknown("memory space", name, SPACES, "this version")


def _settings(spaces: int) -> list[tuple[float, ...]]:
    """Weights to choose from: a total, shared equally by one or more of the spaces."""
    every = range(spaces)
    among = [c for n in every for c in combinations(every, n + 1)]
    some = [tuple(w / len(c) * (s in c) for s in every) for w in WEIGHTS[1:] for c in among]
    return [(0.0,) * spaces, *some]


def _looked_up(heads: np.ndarray, parts: tuple[Array, ...], weights: tuple[float, ...]) -> Scorer:
    """The mixture under some weights, for heads whose parts are at hand."""
    mixed = _mix(*parts, jnp.float32(weights))
    return lambda _, asked: mixed[np.searchsorted(heads, asked)]


@jax.jit
def _mix(
    logits: Float[Array, "b n"],
    votes: Float[Array, "spaces b n"],
    weights: Float[Array, " spaces"],
) -> Float[Array, "b n"]:
    share = votes / jnp.maximum(votes.sum(axis=2, keepdims=True), 1e-12)
    log_bridge = jax.nn.log_softmax(logits, axis=1) + jnp.log1p(-weights.sum())
    return jnp.logaddexp(log_bridge, jnp.log(jnp.einsum("s,sbn->bn", weights, share)))


class BidirectionalScorer:
    """The bridge's forward and reverse answers, added up; a scorer.

    Attributes:
      weights: w of each triple type; 0 is the forward answer alone.
    """

    name = "bidirectional"

    def __init__(self, graph: Graph, bridge: BridgeScorer) -> None:
        """Choose the weights on the validation split.

        Args:
          graph: the split graph.
          bridge: the trained bridge.
        """
        self._bridge = bridge
        self._popularity = log_counts(graph.pairs(["train"]), graph)
        self._asked: dict[TripleType, tuple[Array, Array]] = {}
        self.weights: dict[TripleType, float] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            self.weights[triple_type] = select_by_mrr(
                REVERSE_WEIGHTS,
                lambda w: partial(self._score, weight=w),
                triple_type,
                queries,
                known,
            )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[Array, "n tails"]:
        """Score every tail for each head."""
        return self._score(triple_type, heads, self.weights[triple_type])

    def _score(self, triple_type: TripleType, heads: np.ndarray, weight: float) -> Array:
        forward = jax.nn.log_softmax(self._bridge(triple_type, heads), axis=1)
        if not weight:
            return forward
        asked, bias = self._tails(triple_type)
        back = self._bridge.scale * self._bridge.tails(triple_type.head)[heads] @ asked.T
        return forward + jnp.float32(weight) * (back + bias)

    def _tails(
        self, triple_type: TripleType
    ) -> tuple[Float[Array, "tails d"], Float[Array, " tails"]]:
        """Every tail asked for its heads, and what its answer lacks to be `p(h | t) p(t)`."""
        if triple_type not in self._asked:
            back = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
            every = np.arange(len(self._popularity[triple_type]), dtype=np.int32)
            blocks = [every[at : at + _BLOCK] for at in range(0, len(every), _BLOCK)]
            asked = jnp.concatenate([self._bridge.heads(back, b) for b in blocks])
            total = [jax.nn.logsumexp(self._bridge(back, b), axis=1) for b in blocks]
            bias = jnp.asarray(self._popularity[triple_type]) - jnp.concatenate(total)
            self._asked = {
                triple_type: (asked, bias)
            }  # queries come one triple type after the other
        return self._asked[triple_type]
