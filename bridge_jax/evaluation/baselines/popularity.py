"""Popularity: the same list for every head, the tails with most training facts first."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType


def log_counts(train: Mapping[TripleType, Pairs], graph: Graph) -> dict[TripleType, np.ndarray]:
    """Popularity of every tail of every triple type.

    Args:
      train: the training pairs of each triple type.
      graph: gives the number of nodes.

    Returns:
      Float32 `[nodes of the tail type]`: log(1 + the tail's training facts of that triple type).
    """
    nodes = dict(zip(graph.node_types, graph.counts, strict=True))
    return {
        triple_type: np.log1p(np.bincount(pairs.tails, minlength=nodes[triple_type.tail])).astype(
            np.float32
        )
        for triple_type, pairs in train.items()
    }


class Popularity:
    """log(1 + a tail's training facts of the triple type), for every head alike."""

    name = "popularity"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        self._scores = log_counts(train, graph)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        scores = jnp.asarray(self._scores[triple_type])
        return jnp.broadcast_to(scores, (len(heads), len(scores)))
