"""Head kNN: predicts the tails of the most similar training heads."""

from collections.abc import Mapping
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import KNN_TEMPERATURES, select_by_mrr, validation_queries
from bridge_jax.models import knn
from bridge_jax.models.logits import log_tail_counts

# Weight of popularity, which orders the tails without a vote and breaks ties; far below any vote.
TIE_BREAK = 1e-6


class HeadKNN(knn.HeadKNN):
    """Scores a tail by the votes of the most similar training heads.

    Tails that no neighbour has follow by popularity. The space (standardised or whitened
    embeddings) and the temperature of each triple type are selected by MRR on the validation split.
    Whitening helps most where the dimensions of an encoder correlate, as those of protein language
    models do.
    """

    name = "head_knn"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        spaces: Mapping[str, knn.Space] | None = None,
    ) -> None:
        """Selects space and temperature of each triple type.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
          spaces: Spaces in which heads are compared, by name; default:
            `bridge_jax.models.knn.embedding_spaces`.
        """
        spaces = spaces or knn.embedding_spaces(graph, tables)
        super().__init__(graph, train, spaces, {})
        self._log_counts = log_tail_counts(train, graph)
        validation = validation_queries(graph)
        for triple_type in train:
            queries, known = validation[triple_type]
            heads = np.unique(queries.heads)
            neighbours = {
                space: self.find_neighbours(triple_type, heads, space) for space in spaces
            }
            self.settings[triple_type] = select_by_mrr(
                [knn.Setting(*s) for s in product(spaces, KNN_TEMPERATURES)],
                partial(self._scorer, heads, neighbours),
                triple_type,
                queries,
                known,
            )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        space, temperature = self.settings[triple_type]
        return self._score(
            triple_type, self.find_neighbours(triple_type, heads, space), temperature
        )

    def _scorer(
        self,
        heads: np.ndarray,
        neighbours: Mapping[str, knn.Neighbours],
        setting: knn.Setting,
    ) -> Scorer:
        """Returns the model under a setting, for heads (ascending) with precomputed neighbours."""

        def score(triple_type: TripleType, batch: np.ndarray) -> jax.Array:
            rows = np.searchsorted(heads, batch)
            selected = knn.Neighbours(*(column[rows] for column in neighbours[setting.space]))
            return self._score(triple_type, selected, setting.temperature)

        return score

    def _score(
        self, triple_type: TripleType, neighbours: knn.Neighbours, temperature: float
    ) -> jax.Array:
        votes = self.count_votes(triple_type, neighbours, temperature)
        return jnp.asarray(votes + TIE_BREAK * self._log_counts[triple_type])
