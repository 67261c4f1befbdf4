"""The bridge's score of a query combined with its score of the reverse query.

    log p(t | h, r) + w (log p(h | t, r⁻¹) + log p(t))

The second term is Bayes' rule on the bridge's answer to the reverse query. p(t) is 1 + the number
of training facts of the tail, up to a factor that is the same for all tails. w is selected for each
triple type on the validation split.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.models.logits import log_tail_counts
from bridge_jax.models.scorer import BridgeScorer

_BLOCK = 2048  # tails scored at a time


class BidirectionalScorer:
    """Scorer that adds the bridge's score of the reverse query to that of the query.

    Attributes:
      weights: Weight w of each triple type; 0 is the bridge alone.
    """

    name = "bidirectional"

    def __init__(
        self, graph: Graph, bridge: BridgeScorer, weights: Mapping[TripleType, float]
    ) -> None:
        """Stores the model; reverse queries are computed when they are needed.

        Args:
          graph: The split graph.
          bridge: The trained bridge.
          weights: Weight w of each triple type.
        """
        self._bridge, self.weights = bridge, dict(weights)
        self._log_counts = log_tail_counts(graph.pairs(["train"]), graph)
        self._cached_queries: dict[TripleType, tuple[Array, Array]] = {}

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[Array, "n tails"]:
        """Scores every tail for each head."""
        return self.score(triple_type, heads, self.weights[triple_type])

    def score_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"]
    ) -> Float32[Array, "n tails"]:
        """Scores every tail for new heads, given their frozen embeddings."""
        forward = self._bridge.score_embeddings(triple_type, x)
        keys = self._bridge.project_embeddings(triple_type.head, x)
        return self._combine(triple_type, forward, keys, self.weights[triple_type])

    def score(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"], weight: float
    ) -> Float32[Array, "n tails"]:
        """Scores every tail for each head under some weight w."""
        forward = self._bridge(triple_type, heads)
        keys = self._bridge.tails(triple_type.head)[heads] if weight else None
        return self._combine(triple_type, forward, keys, weight)

    def _combine(
        self, triple_type: TripleType, forward: Array, keys: Array | None, weight: float
    ) -> Array:
        forward = jax.nn.log_softmax(forward, axis=1)
        if not weight or keys is None:
            return forward
        queries, bias = self._reverse_queries(triple_type)
        reverse = self._bridge.scale * keys @ queries.T
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
