"""Head kNN: predicts the tails of the most similar training heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.knn import (
    TEMPERATURES,
    TIE_BREAK,
    Neighbours,
    Space,
    embedding_spaces,
    nearest_neighbours,
    no_neighbours,
)
from bridge_jax.evaluation.baselines.popularity import log_tail_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries


@dataclass(frozen=True)
class _TrainingHeads:
    """The training heads of one triple type, ascending, and the tails of each, `[heads, tails]`."""

    ids: np.ndarray
    tails: scipy.sparse.csr_array


class HeadKNN:
    """Scores a tail by the summed weights of the neighbouring heads that have it.

    The neighbours of a head are the 50 training heads with the most similar embeddings by cosine; a
    head is never its own neighbour. A neighbour's weight is softmax(cosine / temperature) over the
    neighbours. Tails that no neighbour has follow by popularity. The space (standardised or
    whitened embeddings) and the temperature of each triple type are selected by MRR on the
    validation split. Whitening helps most where the dimensions of an encoder correlate, as those of
    protein language models do.

    Attributes:
      settings: Selected (space, temperature) of each triple type.
    """

    name = "head_knn"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        spaces: Mapping[str, Space] | None = None,
    ) -> None:
        """Selects space and temperature of each triple type.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
          spaces: Spaces in which heads are compared, by name; default: `embedding_spaces`.
        """
        self._spaces = spaces or embedding_spaces(graph, tables)
        self._log_counts = log_tail_counts(train, graph)
        self._training_heads = {
            triple_type: _training_heads(pairs, len(self._log_counts[triple_type]))
            for triple_type, pairs in train.items()
        }
        self._cached_keys: dict[str, tuple[TripleType, Array]] = {}
        self.settings: dict[TripleType, tuple[str, float]] = {}
        validation = validation_queries(graph)
        for triple_type in train:
            queries, known = validation[triple_type]
            heads = np.unique(queries.heads)
            neighbours = {
                space: self._neighbours(triple_type, heads, space) for space in self._spaces
            }
            self.settings[triple_type] = select_by_mrr(
                list(product(self._spaces, TEMPERATURES)),
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
        return self._score(triple_type, self._neighbours(triple_type, heads, space), temperature)

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Returns the scores without popularity: 0 for a tail that no neighbour has."""
        space, temperature = self.settings[triple_type]
        return jnp.asarray(
            self._votes(triple_type, self._neighbours(triple_type, heads, space), temperature)
        )

    def _scorer(
        self, heads: np.ndarray, neighbours: Mapping[str, Neighbours], setting: tuple[str, float]
    ) -> Scorer:
        """Returns the model under a setting, for heads (ascending) with precomputed neighbours."""
        space, temperature = setting

        def score(triple_type: TripleType, batch: np.ndarray) -> jax.Array:
            rows = np.searchsorted(heads, batch)
            selected = Neighbours(*(column[rows] for column in neighbours[space]))
            return self._score(triple_type, selected, temperature)

        return score

    def _neighbours(self, triple_type: TripleType, heads: np.ndarray, space: str) -> Neighbours:
        training_heads = self._training_heads[triple_type].ids
        if not len(heads) or not len(training_heads):
            return no_neighbours(len(heads))
        queries = self._spaces[space](triple_type, heads)
        return nearest_neighbours(queries, self._keys(triple_type, space), heads, training_heads)

    def _keys(self, triple_type: TripleType, space: str) -> Array:
        """Returns the training heads in a space; cached, as triple types are ranked in turn."""
        if space not in self._cached_keys or self._cached_keys[space][0] != triple_type:
            keys = self._spaces[space](triple_type, self._training_heads[triple_type].ids)
            self._cached_keys[space] = triple_type, keys
        return self._cached_keys[space][1]

    def _score(
        self, triple_type: TripleType, neighbours: Neighbours, temperature: float
    ) -> jax.Array:
        votes = self._votes(triple_type, neighbours, temperature)
        return jnp.asarray(votes + TIE_BREAK * self._log_counts[triple_type])

    def _votes(
        self, triple_type: TripleType, neighbours: Neighbours, temperature: float
    ) -> np.ndarray:
        tails = self._training_heads[triple_type].tails
        return (neighbours.weights(temperature, tails.shape[0]) @ tails).toarray()


def _training_heads(pairs: Pairs, num_tails: int) -> _TrainingHeads:
    heads, rows = np.unique(pairs.heads, return_inverse=True)
    ones = np.ones(len(rows), np.float32)
    return _TrainingHeads(
        heads, scipy.sparse.csr_array((ones, (rows, pairs.tails)), shape=(len(heads), num_tails))
    )
