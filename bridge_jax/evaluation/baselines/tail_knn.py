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
from bridge_jax.evaluation.baselines.knn import (
    EMBEDDING_SPACES,
    TEMPERATURES,
    TIE_BREAK,
    Neighbours,
    embedding_spaces,
    nearest_neighbours,
)
from bridge_jax.evaluation.baselines.popularity import log_tail_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries

_BLOCK = 2048  # tails compared at a time


class TailKNN:
    """Scores a tail by its similarity to the training tails of the head.

    With w(t, t') the softmax of cosine / temperature over the 50 training tails t' most similar to
    t (t itself excluded), the score of t is the sum of w(t, t') over the training facts (h, r, t')
    of the head. This is item-based collaborative filtering; `head_knn` is the user-based
    counterpart. For a head without training facts the score is popularity. The space and the
    temperature of each triple type are selected by MRR on the validation split.

    Attributes:
      settings: Selected (space, temperature) of each triple type.

    References:
      Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001.
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
        self._spaces = embedding_spaces(graph, tables)
        self._log_counts = log_tail_counts(train, graph)
        self._facts = {
            triple_type: _fact_matrix(pairs, triple_type, graph)
            for triple_type, pairs in train.items()
        }
        self._cached_weights: dict[TripleType, scipy.sparse.csr_array] = {}
        self.settings: dict[TripleType, tuple[str, float]] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            self.settings[triple_type] = next(iter(EMBEDDING_SPACES)), TEMPERATURES[0]
            if self._facts[triple_type][queries.heads].nnz:
                settings = list(product(EMBEDDING_SPACES, TEMPERATURES))
                neighbours = {
                    space: self._tail_neighbours(triple_type, space) for space in EMBEDDING_SPACES
                }
                weights = {
                    (space, temperature): self._weights(triple_type, neighbours[space], temperature)
                    for space, temperature in settings
                }
                self.settings[triple_type] = select_by_mrr(
                    settings, partial(self._scorer, weights), triple_type, queries, known
                )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        return self._score(triple_type, heads)

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Returns the scores without popularity: 0 for a tail similar to none of the head's."""
        return jnp.asarray(self._votes(triple_type, heads))

    def _scorer(
        self,
        weights: Mapping[tuple[str, float], scipy.sparse.csr_array],
        setting: tuple[str, float],
    ) -> Scorer:
        """Returns the model under a setting."""
        return partial(self._score, weights=weights[setting])

    def _score(
        self,
        triple_type: TripleType,
        heads: np.ndarray,
        weights: scipy.sparse.csr_array | None = None,
    ) -> jax.Array:
        votes = self._votes(triple_type, heads, weights)
        return jnp.asarray(votes + TIE_BREAK * self._log_counts[triple_type])

    def _votes(
        self,
        triple_type: TripleType,
        heads: np.ndarray,
        weights: scipy.sparse.csr_array | None = None,
    ) -> np.ndarray:
        facts = self._facts[triple_type][heads]
        if not facts.nnz:  # all heads of an inductive split: no neighbours are needed
            return np.zeros(facts.shape, np.float32)
        return (facts @ (self._selected(triple_type) if weights is None else weights)).toarray()

    def _selected(self, triple_type: TripleType) -> scipy.sparse.csr_array:
        """Returns w under the selected setting; cached, as triple types are ranked in turn."""
        if triple_type not in self._cached_weights:
            space, temperature = self.settings[triple_type]
            neighbours = self._tail_neighbours(triple_type, space)
            self._cached_weights = {
                triple_type: self._weights(triple_type, neighbours, temperature)
            }
        return self._cached_weights[triple_type]

    def _tail_neighbours(self, triple_type: TripleType, space: str) -> Neighbours:
        """Returns the nearest training tails of every tail, as local ids; needs one at least."""
        # A space is a function of heads, and tails are the heads of the reverse triple type.
        reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        training_tails = np.unique(self._facts[triple_type].indices)
        keys = self._spaces[space](reverse, training_tails)
        all_tails = np.arange(len(self._log_counts[triple_type]))
        blocks = [
            nearest_neighbours(self._spaces[space](reverse, tails), keys, tails, training_tails)
            for tails in np.split(all_tails, range(_BLOCK, len(all_tails), _BLOCK))
        ]
        rows, similarity = map(np.concatenate, zip(*blocks, strict=True))
        return Neighbours(training_tails[rows], similarity)

    def _weights(
        self, triple_type: TripleType, neighbours: Neighbours, temperature: float
    ) -> scipy.sparse.csr_array:
        """Returns w as a matrix `[t', t]`."""
        return neighbours.weights(temperature, len(self._log_counts[triple_type])).T.tocsr()


def _fact_matrix(pairs: Pairs, triple_type: TripleType, graph: Graph) -> scipy.sparse.csr_array:
    """Returns the training facts as a matrix `[heads, tails]`, over all nodes of both types."""
    shape = tuple(graph.counts[graph.type_id(t)] for t in (triple_type.head, triple_type.tail))
    return scipy.sparse.csr_array((np.ones(len(pairs.heads), np.float32), pairs), shape=shape)
