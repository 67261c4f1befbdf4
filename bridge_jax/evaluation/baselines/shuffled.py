"""Shuffled: ridge on embeddings dealt out at random, the control for what the embeddings say."""

from collections.abc import Mapping

import numpy as np

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.ridge import Ridge


class Shuffled(Ridge):
    """Ridge after every node type's embeddings were permuted among its nodes.

    A node keeps its facts and gets another node's vector. What is left is what a linear map can
    learn of the tails' popularity; the distance to `ridge` is what the embeddings themselves tell.
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
        rng = np.random.default_rng(seed)
        dealt = {name: x[rng.permutation(len(x))] for name, x in tables.items()}
        super().__init__(graph, dealt, train)
