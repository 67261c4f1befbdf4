"""Cosine nearest neighbours and the weights of their votes, for `head_knn` and `tail_knn`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.evaluation.tuning import l2_normalise, transform_tables

NUM_NEIGHBOURS = 50
# The first temperature and space are used if there is no validation query.
TEMPERATURES = (0.06, 0.03, 0.12, 0.25, 1.0)
# Name of each space, and the transform of the embedding tables that makes it.
EMBEDDING_SPACES = {"standardised": "standardise", "whitened": "whiten"}
# Weight of popularity, which orders the tails without a vote and breaks ties; far below any vote.
TIE_BREAK = 1e-6

# Maps a triple type and local ids `[n]` of its heads to unit vectors `[n, d]`.
Space = Callable[[TripleType, np.ndarray], Array]


class Neighbours(NamedTuple):
    """The nearest candidates of some nodes, best first.

    Attributes:
      rows: Positions among the candidates, `[b, k]`.
      similarity: Cosines, `[b, k]`.
    """

    rows: Int[np.ndarray, "b k"]
    similarity: Float32[np.ndarray, "b k"]

    def weights(self, temperature: float, num_candidates: int) -> scipy.sparse.csr_array:
        """Computes softmax(cosine / temperature) over the neighbours of each node.

        Args:
          temperature: Temperature of the softmax.
          num_candidates: Number of candidates.

        Returns:
          Sparse float32 matrix `[b, candidates]` whose rows sum to 1, or to 0 without neighbours.
        """
        best = self.similarity.max(axis=1, keepdims=True, initial=-1)
        weight = np.exp((self.similarity - best) / np.float32(temperature))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
        num_nodes, k = weight.shape
        indptr = np.arange(num_nodes + 1) * k
        return scipy.sparse.csr_array(
            (weight.ravel(), self.rows.ravel(), indptr), shape=(num_nodes, num_candidates)
        )


def no_neighbours(num_nodes: int) -> Neighbours:
    """Returns an empty list of neighbours for each of some nodes."""
    shape = num_nodes, 0
    return Neighbours(np.zeros(shape, np.int32), np.zeros(shape, np.float32))


def nearest_neighbours(
    queries: Array, keys: Array, query_ids: np.ndarray, key_ids: np.ndarray
) -> Neighbours:
    """Finds the most similar keys of each query; a node is never its own neighbour.

    Args:
      queries: Unit vectors `[b, d]`.
      keys: Unit vectors `[n, d]`, at least one.
      query_ids: Node ids of the queries, `[b]`.
      key_ids: Node ids of the keys, `[n]`, ascending.

    Returns:
      At most `NUM_NEIGHBOURS` rows of `keys` for each query.
    """
    row = np.minimum(np.searchsorted(key_ids, query_ids), len(key_ids) - 1)
    own_row = np.where(key_ids[row] == query_ids, row, len(key_ids))
    similarity, rows = _top_k(queries, keys, own_row, min(NUM_NEIGHBOURS, len(key_ids)))
    return Neighbours(np.asarray(rows), np.asarray(similarity))


@partial(jax.jit, static_argnums=3)
def _top_k(queries: Array, keys: Array, own_row: Array, k: int) -> tuple[Array, Array]:
    with jax.default_matmul_precision("highest"):
        similarity = queries @ keys.T
    similarity = similarity.at[jnp.arange(len(queries)), own_row].set(-jnp.inf, mode="drop")
    best, rows = jax.lax.top_k(similarity, k)
    return best, rows


def embedding_spaces(graph: Graph, tables: Mapping[str, np.ndarray]) -> dict[str, Space]:
    """Returns the spaces of `EMBEDDING_SPACES`.

    Args:
      graph: The split graph; transforms are fitted on its training nodes.
      tables: Frozen embeddings by node type, `[nodes, dim]` float32.
    """

    def make_space(transform: str) -> Space:
        transformed = transform_tables(graph, tables, transform)
        vectors = {name: jnp.asarray(l2_normalise(x)) for name, x in transformed.items()}
        return lambda triple_type, heads: vectors[triple_type.head][heads]

    return {name: make_space(transform) for name, transform in EMBEDDING_SPACES.items()}
