"""Fusion of a trained bridge with the votes of nearest neighbours: the answer that is served.

    p(t | h, r) = (1 - sum_s m_s) p_bridge(t | h, r) + sum_s m_s vote_s(t | h, r)

`vote_s` is the share of the weighted votes in space s that are for t. The votes are the facts of
the training heads nearest to h among the frozen embeddings (s = source) or in the bridged space
(bridged), or h's own facts, for tails similar to theirs (tails). The bridge generalises over
relations and knows the tails; the neighbours are exact about nodes that resemble known ones. A
space without a vote for a query leaves its weight to the bridge and the other spaces.

The weights m of each triple type, and the settings of each space, are selected by MRR on the
validation split at the end of training and stored with the run.

References:
  Khandelwal et al., "Generalization through memorization: nearest neighbor language models", ICLR
  2020.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import unknown

KNN_SPACES = ("source", "bridged", "tails")
# Smallest share of the bridge in a fusion: below any vote, it orders the tails that have none.
BRIDGE_SHARE = 1e-6


@runtime_checkable
class AnswerScorer(Protocol):
    """Scores of every tail, for heads of the graph and for new ones."""

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Scores every tail for heads of the graph, given their local ids."""

    def score_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Float32[Array, "b nodes"]:
        """Scores every tail for new heads, given their frozen embeddings."""


@runtime_checkable
class Voter(Protocol):
    """A model that gives votes to tails, at least 0: `HeadKNN` or `TailKNN`."""

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail of heads of the graph."""

    def votes_of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail of new heads, given their frozen embeddings."""


class Evidence(NamedTuple):
    """What the bridge and each space say about every tail of some queries.

    Attributes:
      logits: Logits of the bridge, `[b, nodes]`.
      votes: Votes of each space, `[spaces, b, nodes]`.
    """

    logits: Float[Array, "b nodes"]
    votes: Float[Array, "spaces b nodes"]


class Fusion:
    """Scorer that mixes the bridge with the votes of nearest neighbours.

    Called with a triple type and local head ids, it returns the log-probability of every tail.

    Attributes:
      voters: Voter of each space.
      spaces: Names of the spaces, of `KNN_SPACES`.
      weights: Weights m of each triple type, one per space; all 0 is the bridge alone.
    """

    name = "fusion"

    def __init__(
        self,
        bridge: AnswerScorer,
        voters: Mapping[str, Voter],
        weights: Mapping[TripleType, tuple[float, ...]],
    ) -> None:
        """Stores the parts.

        Args:
          bridge: The trained bridge; its scores are logits.
          voters: Voter of each space.
          weights: Weights of each triple type, in the order of `voters`.
        """
        self._bridge, self.voters = bridge, dict(voters)
        self.spaces, self.weights = tuple(voters), dict(weights)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the log-probability of every tail for each head."""
        return mix(self.evidence(triple_type, heads), self.weights[triple_type])

    def score_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the log-probability of every tail for new heads."""
        return mix(self.evidence_of_embeddings(triple_type, x), self.weights[triple_type])

    def evidence(self, triple_type: TripleType, heads: Int[np.ndarray, " b"]) -> Evidence:
        """Returns what each part says about heads of the graph."""
        votes = [voter.votes(triple_type, heads) for voter in self.voters.values()]
        return Evidence(self._bridge(triple_type, heads), jnp.stack(votes))

    def evidence_of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Evidence:
        """Returns what each part says about new heads."""
        votes = [v.votes_of_embeddings(triple_type, x) for v in self.voters.values()]
        return Evidence(self._bridge.score_embeddings(triple_type, x), jnp.stack(votes))


class NeighbourScorer:
    """Scorer of the nearest neighbours without the bridge, which only orders what has no vote.

    The spaces keep the ratio of their weights in a fusion; they count equally if all are 0.
    """

    name = "knn"

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion

    def __call__(self, triple_type: TripleType, heads: np.ndarray) -> Array:
        """Returns the log-probability of every tail for heads of the graph."""
        return mix(self._fusion.evidence(triple_type, heads), self._weights(triple_type))

    def score_embeddings(self, triple_type: TripleType, x: np.ndarray) -> Array:
        """Returns the log-probability of every tail for new heads."""
        evidence = self._fusion.evidence_of_embeddings(triple_type, x)
        return mix(evidence, self._weights(triple_type))

    def _weights(self, triple_type: TripleType) -> tuple[float, ...]:
        weights = self._fusion.weights[triple_type]
        total = sum(weights)
        return tuple(w / total if total else 1 / len(weights) for w in weights)


def mix(evidence: Evidence, weights: tuple[float, ...]) -> Float32[Array, "b nodes"]:
    """Returns the log-probability of every tail under some weights of the spaces."""
    return _mix(*evidence, jnp.float32(weights))


def shares(evidence: Evidence, weights: tuple[float, ...]) -> Float32[np.ndarray, "parts b nodes"]:
    """Splits the probability of every tail into what the bridge and each space give it.

    Args:
      evidence: Evidence of a fusion.
      weights: Weights of the spaces.

    Returns:
      Probabilities of the bridge, then of each space; they sum to `exp(mix(evidence, weights))`.
    """
    return np.asarray(_parts(*evidence, jnp.float32(weights)))


@jax.jit
def _mix(
    logits: Float[Array, "b n"],
    votes: Float[Array, "spaces b n"],
    weights: Float[Array, " spaces"],
) -> Float[Array, "b n"]:
    share, of_bridge, of_space = _shares_of_parts(votes, weights)
    log_bridge = jax.nn.log_softmax(logits, axis=1) + jnp.log(of_bridge)[:, None]
    return jnp.logaddexp(log_bridge, jnp.log(jnp.einsum("sb,sbn->bn", of_space, share)))


@jax.jit
def _parts(
    logits: Float[Array, "b n"],
    votes: Float[Array, "spaces b n"],
    weights: Float[Array, " spaces"],
) -> Float[Array, "parts b n"]:
    share, of_bridge, of_space = _shares_of_parts(votes, weights)
    bridge = of_bridge[:, None] * jax.nn.softmax(logits, axis=1)
    return jnp.concatenate([bridge[None], of_space[:, :, None] * share])


def _shares_of_parts(votes: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Returns the votes as shares `[spaces, b, n]`, and the weight of the bridge `[b]` and of each
    space `[spaces, b]`, which sum to 1.
    """
    total = votes.sum(axis=2)
    share = votes / jnp.maximum(total, 1e-12)[:, :, None]
    weights = weights * jnp.minimum(1, (1 - BRIDGE_SHARE) / jnp.maximum(weights.sum(), 1e-12))
    of_space = jnp.where(total > 0, weights[:, None], 0)
    of_bridge = 1 - weights.sum()
    normaliser = of_bridge + of_space.sum(axis=0)
    return share, of_bridge / normaliser, of_space / normaliser


def check_spaces(names: tuple[str, ...]) -> None:
    """Checks that `evaluate.knn_spaces` names one or more of `KNN_SPACES`.

    Raises:
      InputError: A name is unknown, or there is none.
    """
    for name in names or ("",):
        if name not in KNN_SPACES:
            raise unknown("evaluate.knn_spaces", name, KNN_SPACES, "this version")
