"""Exact nearest keys, streamed over blocks of them on the device.

    score(q, i) = scale * <q, key_i> + bias_i

Every key is scored; a block's best are merged into those of the blocks before it, so memory is
bounded by `queries x block`. Equal scores keep the order of the keys.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

BLOCK = 16384
# Queries answered at a time; fewer are padded to the first size that holds them.
QUERIES = (1, 16, 256)
_FIRST_K = 16
# Scores compared before any is sorted.
_GROUP = 32


class Index:
    """Keys on the device, ready to be searched.

    Attributes:
      count: keys.
    """

    def __init__(
        self,
        keys: Float32[np.ndarray, "count d"],
        scale: float = 1.0,
        bias: Float32[np.ndarray, " count"] | None = None,
        block: int = BLOCK,
    ) -> None:
        """Cut the keys into blocks of one size.

        Args:
          keys: one at least; of unit length where the score is a cosine.
          scale: what the inner product is multiplied with.
          bias: what is added to each key's score.
          block: at most so many keys are scored at a time.
        """
        self.count = len(keys)
        blocks = -(-self.count // block)
        size = -(-self.count // blocks)  # even blocks need the least padding
        missing = blocks * size - self.count
        bias = np.zeros(self.count, np.float32) if bias is None else bias
        padded = np.pad(keys, ((0, missing), (0, 0))).reshape(blocks, size, -1)
        self._keys = jnp.asarray(padded)
        self._bias = jnp.asarray(
            np.pad(bias, (0, missing), constant_values=-np.inf).reshape(blocks, size)
        )
        self._scale = jnp.float32(scale)

    def search(
        self, queries: Float32[np.ndarray, "n d"], k: int
    ) -> tuple[Float32[np.ndarray, "n k"], Int32[np.ndarray, "n k"]]:
        """The k best keys of each query, best first.

        Args:
          queries: vectors.
          k: how many; all keys if there are fewer.

        Returns:
          Scores, and rows of the keys.
        """
        k = min(k, self.count)
        most = min(_bucket(k), self.count)
        size = next((s for s in QUERIES if s >= len(queries)), QUERIES[-1])
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int32)
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))
            best, found = _search(padded, self._keys, self._bias, self._scale, most)
            scores[start : start + size] = np.asarray(best)[: len(part), :k]
            rows[start : start + size] = np.asarray(found)[: len(part), :k]
        return scores, rows


@partial(jax.jit, static_argnums=4)
def _search(
    queries: Float[Array, "n d"],
    keys: Float[Array, "blocks size d"],
    bias: Float[Array, "blocks size"],
    scale: Float[Array, ""],
    k: int,
) -> tuple[Float[Array, "n k"], Int32[Array, "n k"]]:
    n, size = len(queries), keys.shape[1]

    def merge(
        best: tuple[Array, Array], block: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], None]:
        first, key, add = block
        # A GPU's default would round the factors; then neither order nor scores were exact.
        product = jnp.matmul(queries, key.T, precision="highest")
        scores, rows = _best(scale * product + add, min(k, size))
        scores = jnp.concatenate([best[0], scores], axis=1)
        rows = jnp.concatenate([best[1], rows + first], axis=1)
        scores, chosen = jax.lax.top_k(scores, k)
        return (scores, jnp.take_along_axis(rows, chosen, axis=1)), None

    nothing = jnp.full((n, k), -jnp.inf), jnp.zeros((n, k), jnp.int32)
    firsts = jnp.arange(len(keys), dtype=jnp.int32) * size
    best, _ = jax.lax.scan(merge, nothing, (firsts, keys, bias))
    return best


def _best(
    scores: Float[Array, "n size"], k: int
) -> tuple[Float[Array, "n k"], Int32[Array, "n k"]]:
    """`top_k`, sparing most of its sorting where k is small.

    The k best lie in the k groups with the highest maxima: of k other groups, each would hold a
    score at least as good. Groups stay in their order, so that equal scores keep theirs.
    """
    n, size = scores.shape
    groups = -(-size // _GROUP)
    if groups < 8 * k:
        best, rows = jax.lax.top_k(scores, k)
        return best, rows
    padded = jnp.pad(scores, ((0, 0), (0, groups * _GROUP - size)), constant_values=-jnp.inf)
    grouped = padded.reshape(n, groups, _GROUP)
    chosen = jnp.sort(jax.lax.top_k(grouped.max(axis=2), k)[1], axis=1)
    held = jnp.take_along_axis(grouped, chosen[:, :, None], axis=1).reshape(n, k * _GROUP)
    best, at = jax.lax.top_k(held, k)
    rows = jnp.take_along_axis(chosen, at // _GROUP, axis=1) * _GROUP + at % _GROUP
    return best, rows


def _bucket(k: int) -> int:
    """The first of a few sizes that holds k: few sizes, few compilations."""
    size = _FIRST_K
    while size < k:
        size *= 4
    return size
