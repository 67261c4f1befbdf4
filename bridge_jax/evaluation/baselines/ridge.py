"""Ridge: one linear map per triple type, from the head's embedding to those of its tails."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float32, Int

from bridge_jax.data.embedding_tables import l2_normalise
from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import (
    select_by_mrr,
    transform_tables,
    validation_queries,
)

# Multiples of the number of training heads. The first is used if there is no validation query.
PENALTIES = (0.01, 0.0001, 0.001, 0.1, 1.0, 10.0)


class Ridge:
    """Dot product of a linear prediction with the unit-length embeddings of the tails.

    For each triple type, let x be the standardised embedding of a training head and y the mean of
    the unit-length standardised embeddings of its training tails. The map solves

        minimise  sum |x W + b - y|^2 + penalty * heads * |W|^2

    The penalty is selected by MRR on the validation split. Cosine instead of the dot product would
    give the same ranks: it divides all scores of a head by one number.

    Attributes:
      penalties: Selected penalty of each triple type.
    """

    name = "ridge"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        *,
        penalties: Sequence[float] = PENALTIES,
    ) -> None:
        """Fits the maps.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
          penalties: Penalties to select from, default `PENALTIES`.
        """
        x = transform_tables(graph, tables, "standardise")
        self._heads = {name: jnp.asarray(v) for name, v in x.items()}
        self._tails = {name: jnp.asarray(l2_normalise(v)) for name, v in x.items()}
        self._maps: dict[TripleType, tuple[Array, Array]] = {}
        self.penalties: dict[TripleType, float] = {}
        validation = validation_queries(graph)
        for triple_type, pairs in train.items():
            maps = fit_ridge(
                x[triple_type.head], np.asarray(self._tails[triple_type.tail]), pairs, penalties
            )
            best = select_by_mrr(
                penalties, partial(self._scorer, maps), triple_type, *validation[triple_type]
            )
            self.penalties[triple_type], self._maps[triple_type] = best, maps[best]

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        return self._score(triple_type, heads, *self._maps[triple_type])

    def _scorer(self, maps: Mapping[float, tuple[Array, Array]], penalty: float) -> Scorer:
        """Returns the model with the map of one penalty."""
        return lambda triple_type, heads: self._score(triple_type, heads, *maps[penalty])

    def _score(
        self, triple_type: TripleType, heads: np.ndarray, weight: Array, bias: Array
    ) -> Array:
        rows = jnp.asarray(heads, jnp.int32)
        return _dot(
            self._heads[triple_type.head], rows, weight, bias, self._tails[triple_type.tail]
        )


@jax.jit
def _dot(x: Array, rows: Array, weight: Array, bias: Array, tails: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return (x[rows] @ weight + bias) @ tails.T


def fit_ridge(
    x: np.ndarray, tails: np.ndarray, pairs: Pairs, penalties: Sequence[float]
) -> dict[float, tuple[Array, Array]]:
    """Solves the problem that `Ridge` states, in float64.

    Args:
      x: Standardised embeddings of the head type, `[nodes, head dim]`.
      tails: Unit-length embeddings of the tail type, `[nodes, tail dim]`.
      pairs: Training pairs. Without any pair the maps are zero.
      penalties: Penalties to solve for.

    Returns:
      Weight `[head dim, tail dim]` and bias `[tail dim]` in float32, by penalty.
    """
    heads, rows, num_facts = np.unique(pairs.heads, return_inverse=True, return_counts=True)
    if not len(heads):
        zero = jnp.zeros((x.shape[1], tails.shape[1])), jnp.zeros(tails.shape[1])
        return dict.fromkeys(penalties, zero)
    mean_of_tails = scipy.sparse.csr_array(
        (1 / num_facts[rows], (rows, pairs.tails)), shape=(len(heads), len(tails))
    )
    y = mean_of_tails @ tails.astype(np.float64)
    x_mean, y_mean = x[heads].mean(axis=0, dtype=np.float64), y.mean(axis=0)
    centred = x[heads] - x_mean
    gram, cross = centred.T @ centred, centred.T @ (y - y_mean)
    maps = {}
    for penalty in penalties:
        weight = np.linalg.solve(gram + penalty * len(heads) * np.eye(len(gram)), cross)
        bias = y_mean - x_mean @ weight
        maps[penalty] = jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)
    return maps
