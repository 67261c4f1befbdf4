"""Tail kNN: predicts the tails that are most similar to the training tails of the same head."""

from collections.abc import Mapping
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.head_knn import TIE_BREAK
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import KNN_TEMPERATURES, select_by_mrr, validation_queries
from bridge_jax.models import knn
from bridge_jax.models.logits import log_tail_counts


class TailKNN(knn.TailKNN):
    """Scores a tail by its similarity to the training tails of the head.

    For a head without training facts the score is popularity. The space and the temperature of each
    triple type are selected by MRR on the validation split.
    """

    name = "tail_knn"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        """Selects space and temperature of each triple type.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
        """
        spaces = knn.embedding_spaces(graph, tables)
        super().__init__(graph, train, spaces, {})
        self._log_counts = log_tail_counts(train, graph)
        settings = [knn.Setting(*s) for s in product(spaces, KNN_TEMPERATURES)]
        for triple_type, (queries, known) in validation_queries(graph).items():
            self.settings[triple_type] = settings[0]
            if self.has_facts(triple_type, queries.heads):
                neighbours = {space: self.find_neighbours(triple_type, space) for space in spaces}
                weights = {
                    s: self.weights_between(triple_type, neighbours[s.space], s.temperature)
                    for s in settings
                }
                self.settings[triple_type] = select_by_mrr(
                    settings, partial(self._scorer, weights), triple_type, queries, known
                )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        return self._score(triple_type, heads)

    def _scorer(
        self, weights: Mapping[knn.Setting, scipy.sparse.csr_array], setting: knn.Setting
    ) -> Scorer:
        """Returns the model under a setting."""
        return partial(self._score, weights=weights[setting])

    def _score(
        self,
        triple_type: TripleType,
        heads: np.ndarray,
        weights: scipy.sparse.csr_array | None = None,
    ) -> jax.Array:
        votes = self.count_votes(triple_type, heads, weights)
        return jnp.asarray(votes + TIE_BREAK * self._log_counts[triple_type])
