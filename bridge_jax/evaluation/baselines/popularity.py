"""Popularity: ranks the tails by their number of training facts, the same for every head."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.models.logits import log_tail_counts


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
