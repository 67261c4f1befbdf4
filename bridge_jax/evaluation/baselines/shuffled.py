"""Shuffled: ridge on permuted embeddings, the control for the information in the embeddings."""

from collections.abc import Mapping

import numpy as np

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.ridge import Ridge


class Shuffled(Ridge):
    """Ridge after the embeddings of every node type were permuted among its nodes.

    A node keeps its facts and gets the embedding of another node. What remains is what a linear map
    can learn about the popularity of the tails; the difference to `ridge` is what the embeddings
    contribute.
    """

    name = "shuffled"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        *,
        seed: int = 0,
    ) -> None:
        """Permutes the embeddings and fits the maps.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
          seed: Seed of the permutations, default 0.
        """
        rng = np.random.default_rng(seed)
        permuted = {name: x[rng.permutation(len(x))] for name, x in tables.items()}
        super().__init__(graph, permuted, train)
