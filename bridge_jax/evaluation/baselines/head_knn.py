"""Nearest neighbour: a head is answered with the tails of the most similar training heads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.popularity import log_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import prepared, select_by_mrr, unit, validation_queries

NEIGHBOURS = 50
# Unit vectors of some heads, as one triple type sees them: `[n, d]`.
Space = Callable[[TripleType, np.ndarray], Array]
# The first of each stands where there is no validation query.
SPACES = {"standardised": "standardise", "whitened": "whiten"}
TEMPERATURES = (0.06, 0.03, 0.12, 0.25, 1.0)
# Orders the tails that no neighbour has, and breaks ties; far below any neighbour's weight.
TINY = 1e-6


@dataclass(frozen=True)
class _Index:
    """The training heads of one triple type, and which tails each has."""

    heads: np.ndarray
    tails: scipy.sparse.csr_array


class Near(NamedTuple):
    """The nearest known nodes of some others: where they are among the known, and their cosines."""

    rows: Int[np.ndarray, "b k"]
    similarity: Float32[np.ndarray, "b k"]

    def weights(self, temperature: float, known: int) -> scipy.sparse.csr_array:
        """Softmax of cosines / temperature over each node's neighbours, `[b, known]`."""
        best = self.similarity.max(axis=1, keepdims=True, initial=-1)
        weight = np.exp((self.similarity - best) / np.float32(temperature))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), TINY)
        nodes, k = weight.shape
        ends = np.arange(nodes + 1) * k
        return scipy.sparse.csr_array(
            (weight.ravel(), self.rows.ravel(), ends), shape=(nodes, known)
        )


class HeadKNN:
    """Tails of the 50 most similar training heads, each weighted by its head's similarity.

    Similarity is the cosine s of two heads' embeddings; a neighbour's weight is
    softmax(s / temperature) over the neighbours, and a tail's score the sum of the weights of the
    neighbours that have it. A training head is no neighbour of itself. Tails that no neighbour
    has follow by popularity. For each triple type the space (standardised or whitened embeddings)
    and the temperature are chosen on the validation split by MRR. Whitening is worth much where
    an encoder's dimensions correlate, as those of protein models do.
    """

    name = "head_knn"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        spaces: Mapping[str, Space] | None = None,
    ) -> None:
        """Choose the settings on the validation split.

        Args:
          graph: the split graph.
          tables: frozen embeddings, `[count, dim]` float32 by node type.
          train: training facts.
          spaces: where heads are compared; by default the embeddings, standardised or whitened.
        """
        self._spaces = spaces or frozen(graph, tables)
        self._held: dict[str, tuple[TripleType, Array]] = {}
        self._popularity = log_counts(train, graph)
        self._index = {
            triple_type: _index(pairs, len(self._popularity[triple_type]))
            for triple_type, pairs in train.items()
        }
        self.settings: dict[TripleType, tuple[str, float]] = {}
        held = validation_queries(graph)
        for triple_type in train:
            queries, known = held[triple_type]
            heads = np.unique(queries.heads)
            near = {space: self._neighbours(triple_type, heads, space) for space in self._spaces}
            self.settings[triple_type] = select_by_mrr(
                list(product(self._spaces, TEMPERATURES)),
                partial(self._with, heads, near),
                triple_type,
                queries,
                known,
            )

    def _with(
        self, looked_up: np.ndarray, near: Mapping[str, Near], setting: tuple[str, float]
    ) -> Scorer:
        """The model under a setting, for heads whose neighbours have been looked up."""
        space, temperature = setting

        def score(triple_type: TripleType, heads: np.ndarray) -> jax.Array:
            rows = np.searchsorted(looked_up, heads)
            return self._vote(triple_type, Near(*(a[rows] for a in near[space])), temperature)

        return score

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        space, temperature = self.settings[triple_type]
        return self._vote(triple_type, self._neighbours(triple_type, heads, space), temperature)

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """The neighbours' votes alone: 0 for a tail that none of them has."""
        space, temperature = self.settings[triple_type]
        return jnp.asarray(
            self._count(triple_type, self._neighbours(triple_type, heads, space), temperature)
        )

    def _neighbours(self, triple_type: TripleType, heads: np.ndarray, space: str) -> Near:
        known = self._index[triple_type].heads
        if not len(heads) or not len(known):
            return Near(np.zeros((len(heads), 0), np.int32), np.zeros((len(heads), 0), np.float32))
        asked = self._spaces[space](triple_type, heads)
        return nearest(asked, self._known(triple_type, space), heads, known)

    def _known(self, triple_type: TripleType, space: str) -> Array:
        """The training heads; kept, as queries come one triple type after the other."""
        if space not in self._held or self._held[space][0] != triple_type:
            self._held[space] = (
                triple_type,
                self._spaces[space](triple_type, self._index[triple_type].heads),
            )
        return self._held[space][1]

    def _vote(self, triple_type: TripleType, near: Near, temperature: float) -> jax.Array:
        return jnp.asarray(
            self._count(triple_type, near, temperature) + TINY * self._popularity[triple_type]
        )

    def _count(self, triple_type: TripleType, near: Near, temperature: float) -> np.ndarray:
        tails = self._index[triple_type].tails
        return (near.weights(temperature, tails.shape[0]) @ tails).toarray()


def frozen(graph: Graph, tables: Mapping[str, np.ndarray]) -> dict[str, Space]:
    """The embeddings as spaces, standardised and whitened."""

    def space(how: str) -> Space:
        x = {n: jnp.asarray(unit(x)) for n, x in prepared(graph, tables, how).items()}
        return lambda triple_type, heads: x[triple_type.head][heads]

    return {name: space(how) for name, how in SPACES.items()}


def nearest(asked: Array, keys: Array, nodes: np.ndarray, known: np.ndarray) -> Near:
    """The most similar known nodes; one that is known itself is left out of its own.

    Args:
      asked: unit vectors `[b, d]` of `nodes`.
      keys: unit vectors `[n, d]` of `known`.
      nodes: ids `[b]`.
      known: ids `[n]`, ascending; at least one.

    Returns:
      At most `NEIGHBOURS` rows of `known` for each node, best first.
    """
    at = np.minimum(np.searchsorted(known, nodes), len(known) - 1)
    itself = np.where(known[at] == nodes, at, len(known))
    similarity, rows = _top(asked, keys, itself, min(NEIGHBOURS, len(known)))
    return Near(np.asarray(rows), np.asarray(similarity))


@partial(jax.jit, static_argnums=3)
def _top(asked: Array, known: Array, itself: Array, k: int) -> tuple[Array, Array]:
    with jax.default_matmul_precision("highest"):
        similarity = asked @ known.T
    similarity = similarity.at[jnp.arange(len(asked)), itself].set(-jnp.inf, mode="drop")
    best, rows = jax.lax.top_k(similarity, k)
    return best, rows


def _index(pairs: Pairs, nodes: int) -> _Index:
    heads, rows = np.unique(pairs.heads, return_inverse=True)
    ones = np.ones(len(rows), np.float32)
    return _Index(
        heads, scipy.sparse.csr_array((ones, (rows, pairs.tails)), shape=(len(heads), nodes))
    )
