"""Exact nearest-neighbour search on the device, streamed over blocks of keys.

    score(q, i) = scale * <q, key_i> + bias_i

Every key is scored. The best keys of a block are merged with the best of the blocks before it, so
memory is bounded by `queries x block_size`. Keys with equal scores keep their order.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from bridge_jax.errors import InputError

BLOCK_SIZE = 16384
# Numbers of queries searched at once; fewer are padded to the first size that fits.
QUERY_BATCH_SIZES = (1, 16, 256)
_SMALLEST_K = 16
_GROUP_SIZE = 32  # scores reduced to their maximum before any is sorted


class ExactIndex:
    """Keys on the device that can be searched exactly.

    Attributes:
      num_keys: Number of keys.
    """

    def __init__(
        self,
        keys: Float32[np.ndarray, "count d"],
        scale: float = 1.0,
        bias: Float32[np.ndarray, " count"] | None = None,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        """Puts the keys on the device, in blocks of equal size.

        Args:
          keys: At least one key; of unit length if the score is to be a cosine.
          scale: Factor of the inner product.
          bias: Bias of each key; default: zero.
          block_size: Largest number of keys scored at once.

        Raises:
          InputError: A key, its bias or the scale is NaN or infinite.
        """
        check_finite("key", keys)
        if bias is not None:
            check_finite("bias of key", bias[:, None])
        if not np.isfinite(scale):
            raise InputError(f"the factor of the scores is {scale}; the parameters are damaged")
        self.num_keys = len(keys)
        num_blocks = -(-self.num_keys // block_size)
        size = -(-self.num_keys // num_blocks)  # blocks of equal size need the least padding
        padding = num_blocks * size - self.num_keys
        bias = np.zeros(self.num_keys, np.float32) if bias is None else bias
        padded = np.pad(keys, ((0, padding), (0, 0))).reshape(num_blocks, size, -1)
        self._keys = jnp.asarray(padded)
        self._bias = jnp.asarray(
            np.pad(bias, (0, padding), constant_values=-np.inf).reshape(num_blocks, size)
        )
        self._scale = jnp.float32(scale)

    def search(
        self, queries: Float32[np.ndarray, "n d"], k: int
    ) -> tuple[Float32[np.ndarray, "n k"], Int32[np.ndarray, "n k"]]:
        """Returns the k best keys of each query, best first.

        Args:
          queries: Query vectors.
          k: Number of keys per query; all keys if there are fewer.

        Returns:
          Scores, and row numbers of the keys.

        Raises:
          InputError: A query, or one of its best scores, is NaN or infinite.
        """
        check_finite("query", queries)
        k = min(k, self.num_keys)
        compiled_k = min(_round_up(k), self.num_keys)
        size = next((s for s in QUERY_BATCH_SIZES if s >= len(queries)), QUERY_BATCH_SIZES[-1])
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int32)
        for start in range(0, len(queries), size):
            batch = queries[start : start + size]
            padded = np.pad(batch, ((0, size - len(batch)), (0, 0)))
            best = _search(padded, self._keys, self._bias, self._scale, compiled_k)
            scores[start : start + size] = np.asarray(best[0])[: len(batch), :k]
            rows[start : start + size] = np.asarray(best[1])[: len(batch), :k]
        check_finite("the scores of query", scores)
        return scores, rows


def check_finite(noun: str, rows: Float[np.ndarray, "n d"], names: Sequence[str] = ()) -> None:
    """Raises an error for the first row that holds NaN or infinity.

    Args:
      noun: What a row is, for the message.
      rows: Rows to check.
      names: Name of each row; default: its number.

    Raises:
      InputError: A row holds NaN or infinity.
    """
    # A sum is not finite if any value is not; it reads the rows once and writes nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = ~np.isfinite(rows.sum(axis=1))
    for row in np.flatnonzero(suspect).tolist():
        if not np.isfinite(rows[row]).all():
            name = names[row] if len(names) else row
            raise InputError(
                f"{noun} {name}: NaN or infinite; its embedding or the parameters overflow"
            )


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
        first_row, block_keys, block_bias = block
        # A GPU's default precision would round the factors and change both scores and order.
        product = jnp.matmul(queries, block_keys.T, precision="highest")
        scores, rows = _top_k(scale * product + block_bias, min(k, size))
        scores = jnp.concatenate([best[0], scores], axis=1)
        rows = jnp.concatenate([best[1], rows + first_row], axis=1)
        scores, columns = jax.lax.top_k(scores, k)
        return (scores, jnp.take_along_axis(rows, columns, axis=1)), None

    initial = jnp.full((n, k), -jnp.inf), jnp.zeros((n, k), jnp.int32)
    first_rows = jnp.arange(len(keys), dtype=jnp.int32) * size
    best, _ = jax.lax.scan(merge, initial, (first_rows, keys, bias))
    return best


def _top_k(
    scores: Float[Array, "n size"], k: int
) -> tuple[Float[Array, "n k"], Int32[Array, "n k"]]:
    """Equals `jax.lax.top_k`, but sorts only a few groups of scores if k is small.

    The k best scores lie in the k groups with the highest maxima, because each of these groups
    holds a score at least as good as any score outside them. Groups stay in their order, so that
    equal scores do too.
    """
    n, size = scores.shape
    num_groups = -(-size // _GROUP_SIZE)
    if num_groups < 8 * k:
        best, rows = jax.lax.top_k(scores, k)
        return best, rows
    padding = num_groups * _GROUP_SIZE - size
    padded = jnp.pad(scores, ((0, 0), (0, padding)), constant_values=-jnp.inf)
    grouped = padded.reshape(n, num_groups, _GROUP_SIZE)
    groups = jnp.sort(jax.lax.top_k(grouped.max(axis=2), k)[1], axis=1)
    candidates = jnp.take_along_axis(grouped, groups[:, :, None], axis=1)
    best, columns = jax.lax.top_k(candidates.reshape(n, k * _GROUP_SIZE), k)
    rows = jnp.take_along_axis(groups, columns // _GROUP_SIZE, axis=1) * _GROUP_SIZE
    return best, rows + columns % _GROUP_SIZE


def _round_up(k: int) -> int:
    """Rounds k up to one of a few sizes, so that few programs are compiled."""
    size = _SMALLEST_K
    while size < k:
        size *= 4
    return size
