"""Popularity: ranks the tails by their number of training facts, the same for every head."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.models.logits import tail_counts


def log_tail_counts(
    train: Mapping[TripleType, Pairs], graph: Graph
) -> dict[TripleType, np.ndarray]:
    """Computes log(1 + number of training facts) of every tail of every triple type.

    Args:
      train: Training pairs of each triple type.
      graph: The split graph, for the number of nodes.

    Returns:
      Float32 `[nodes of the tail type]` by triple type.
    """
    return {
        triple_type: np.log1p(
            tail_counts(pairs.tails, graph.counts[graph.type_id(triple_type.tail)])
        ).astype(np.float32)
        for triple_type, pairs in train.items()
    }


class Popularity:
    """Scores a tail by log(1 + its training facts of the triple type), whatever the head."""

    name = "popularity"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        self._scores = log_tail_counts(train, graph)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        scores = jnp.asarray(self._scores[triple_type])
        return jnp.broadcast_to(scores, (len(heads), len(scores)))
