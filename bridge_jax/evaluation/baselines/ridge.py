"""Ridge: one closed-form linear map a triple type, from the head's embedding to its tails'."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import prepared, select_by_mrr, unit, validation_queries

# Multiples of the number of training heads; the first stands where there is no validation query.
STRENGTHS = (0.01, 0.0001, 0.001, 0.1, 1.0, 10.0)


class Ridge:
    """Dot product of a linear prediction with the tails' unit-length embeddings.

    For each triple type, with x a training head's standardised embedding and y the mean of the
    unit-length standardised embeddings of its training tails:

        minimise  sum |x W + b - y|^2 + strength * heads * |W|^2

    The strength is chosen on the validation split by MRR. Cosine in place of the dot product
    would give the same ranks: it divides a head's scores by one number.
    """

    name = "ridge"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        *,
        strengths: Sequence[float] = STRENGTHS,
    ) -> None:
        x = prepared(graph, tables, "standardise")
        self._heads = {name: jnp.asarray(v) for name, v in x.items()}
        self._tails = {name: jnp.asarray(unit(v)) for name, v in x.items()}
        self._maps: dict[TripleType, tuple[Array, Array]] = {}
        self.strengths: dict[TripleType, float] = {}
        held = validation_queries(graph)
        for triple_type, pairs in train.items():
            maps = fit(
                x[triple_type.head], np.asarray(self._tails[triple_type.tail]), pairs, strengths
            )
            best = select_by_mrr(
                strengths, partial(self._with, maps), triple_type, *held[triple_type]
            )
            self.strengths[triple_type], self._maps[triple_type] = best, maps[best]

    def _with(self, maps: dict[float, tuple[Array, Array]], strength: float) -> Scorer:
        return lambda triple_type, heads: self._score(triple_type, heads, *maps[strength])

    def _score(
        self, triple_type: TripleType, heads: np.ndarray, weight: Array, bias: Array
    ) -> Array:
        rows = jnp.asarray(heads, jnp.int32)
        return _dot(
            self._heads[triple_type.head], rows, weight, bias, self._tails[triple_type.tail]
        )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        return self._score(triple_type, heads, *self._maps[triple_type])


@jax.jit
def _dot(x: Array, rows: Array, weight: Array, bias: Array, tails: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return (x[rows] @ weight + bias) @ tails.T


def fit(
    x: np.ndarray, tails: np.ndarray, pairs: Pairs, strengths: Sequence[float]
) -> dict[float, tuple[Array, Array]]:
    """Solve the problem that `Ridge` states, in float64.

    Args:
      x: `[heads, head dim]`, standardised.
      tails: `[tails, tail dim]`, of unit length.
      pairs: training pairs; zero maps where there is none.
      strengths: of the penalty.

    Returns:
      Weight `[head dim, tail dim]` and bias `[tail dim]` for every strength.
    """
    heads, rows, facts = np.unique(pairs.heads, return_inverse=True, return_counts=True)
    if not len(heads):
        zero = jnp.zeros((x.shape[1], tails.shape[1])), jnp.zeros(tails.shape[1])
        return dict.fromkeys(strengths, zero)
    mean_of_tails = scipy.sparse.csr_array(
        (1 / facts[rows], (rows, pairs.tails)), shape=(len(heads), len(tails))
    )
    y = mean_of_tails @ tails.astype(np.float64)
    x_mean, y_mean = x[heads].mean(axis=0, dtype=np.float64), y.mean(axis=0)
    seen = x[heads] - x_mean
    gram, cross = seen.T @ seen, seen.T @ (y - y_mean)
    out = {}
    for strength in strengths:
        weight = np.linalg.solve(gram + strength * len(heads) * np.eye(len(gram)), cross)
        bias = y_mean - x_mean @ weight
        out[strength] = jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)
    return out
