"""Contrastive losses: InfoNCE over all candidates that are not known positives.

For query i with the logit o_i of its own tail, keys k_j, and the set M_i of masked keys (the known
tails of (h, r), which include every copy of the row's own tail):

    loss_i = log( exp(o_i) + sum_{j not in M_i} exp(s_ij) ) - o_i,   s_ij = scale * q_i . k_j + b_ij

The symmetric loss is the mean of this and of the same with rows and keys exchanged. The sigmoid
loss treats each pair as a binary decision, with a learned bias in the logits:

    loss_i = softplus(-o_i) + sum_{j not in M_i} softplus(s_ij)

Over several devices, each holds some rows and some keys. The keys are gathered
(`reduce_all_gather`) or travel around the devices (`reduce_ring`): same arguments, same value, same
gradients.

Arrays name their axes in a suffix: N local rows, M keys, K negatives of a row, D width.

References:
  van den Oord et al., "Representation learning with contrastive predictive coding", 2018.
  Zhai et al., "Sigmoid loss for language image pre-training", 2023.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -1e30  # logit of a masked pair
T = TypeVar("T")


def info_nce(own: Float[Array, "*n"], lse: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the softmax loss of each row.

    Args:
      own: Logit of the row's own tail.
      lse: Log-sum-exp of the row's logits over the other keys.
    """
    return jnp.logaddexp(own, lse) - own


def sigmoid_nce(own: Float[Array, "*n"], softplus_sum: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the sigmoid loss of each row.

    Args:
      own: Logit of the row's own tail.
      softplus_sum: Sum of softplus over the row's logits with the other keys.
    """
    return jax.nn.softplus(-own) + softplus_sum


def sampled_nce(
    query_ND: Float[Array, "*n d"],
    own_ND: Float[Array, "*n d"],
    negatives_NKD: Float[Array, "*n k d"],
    masked_NK: Bool[Array, "*n k"] | None,
    scale: float | Float[Array, ""],
) -> Float[Array, "*n"]:
    """Returns InfoNCE of each row against a few negatives of its own, as BioBridge was released.

    Args:
      query_ND: Bridged heads of unit length.
      own_ND: Projected true tails of unit length.
      negatives_NKD: Projected negative tails of the same type, of unit length.
      masked_NK: Which negatives are known positives and do not count; default: none.
      scale: 1 / temperature.
    """
    true = scale * (query_ND * own_ND).sum(-1)
    false = scale * jnp.einsum("...d,...kd->...k", query_ND, negatives_NKD)
    if masked_NK is not None:
        false = jnp.where(masked_NK, MASKED, false)
    return info_nce(true, jax.nn.logsumexp(false, axis=-1))


class Softmax:
    """Reduces the logits of a row to their log-sum-exp, one block of keys at a time."""

    @staticmethod
    def init(like_N: Array) -> tuple[Array, Array]:
        """Returns the state before the first block: running maximum and scaled sum."""
        return jnp.full_like(like_N, MASKED), jnp.zeros_like(like_N)

    @staticmethod
    def update(state: tuple[Array, Array], block_NM: Array) -> tuple[Array, Array]:
        """Adds a block of logits to the state."""
        largest, summed = state
        new_largest = jnp.maximum(largest, block_NM.max(axis=1))
        summed = summed * jnp.exp(largest - new_largest)
        summed = summed + jnp.exp(block_NM - new_largest[:, None]).sum(axis=1)
        return new_largest, summed

    @staticmethod
    def finalize(state: tuple[Array, Array]) -> Array:
        """Returns the log-sum-exp of each row."""
        return state[0] + jnp.log(state[1])

    @staticmethod
    def grad_weight(block_NM: Array, lse_N: Array) -> Array:
        """Returns the derivative of each row's log-sum-exp by its logits in a block."""
        return jnp.exp(block_NM - lse_N[:, None])

    @staticmethod
    def dense(logits_NM: Array) -> Array:
        """Returns the log-sum-exp of each row from all logits at once; differentiable."""
        return jax.nn.logsumexp(logits_NM, axis=1)

    row_loss = staticmethod(info_nce)


class Sigmoid:
    """Reduces the logits of a row to the sum of their softplus, one block of keys at a time."""

    @staticmethod
    def init(like_N: Array) -> Array:
        """Returns the state before the first block: a sum of zero."""
        return jnp.zeros_like(like_N)

    @staticmethod
    def update(state: Array, block_NM: Array) -> Array:
        """Adds a block of logits to the state."""
        return state + jax.nn.softplus(block_NM).sum(axis=1)

    @staticmethod
    def finalize(state: Array) -> Array:
        """Returns the sum of each row."""
        return state

    @staticmethod
    def grad_weight(block_NM: Array, total_N: Array) -> Array:
        """Returns the derivative of each row's sum by its logits in a block."""
        del total_N
        return jax.nn.sigmoid(block_NM)

    @staticmethod
    def dense(logits_NM: Array) -> Array:
        """Returns the sum of each row from all logits at once; differentiable."""
        return jax.nn.softplus(logits_NM).sum(axis=1)

    row_loss = staticmethod(sigmoid_nce)


Reduction = type[Softmax] | type[Sigmoid]

# Query rows, candidate keys, logit parameters and fixed data, all local, to logits [N, M] in which
# masked pairs are MASKED.
LogitsFn = Callable[[Any, Any, Any, Any], Float[Array, "n m"]]


class Contrast(NamedTuple):
    """What is reduced, and over which devices.

    Attributes:
      logits: Function of local rows and some keys that returns masked logits.
      reduction: How the logits of a row become one number.
      axis: Mesh axis, or axes, over which rows and keys are sharded.
      symmetric: Whether to reduce each key over all rows as well; for softmax only.
    """

    logits: LogitsFn
    reduction: Reduction
    axis: str | tuple[str, ...]
    symmetric: bool = False


def reduce_all_gather(
    contrast: Contrast, rows: Any, keys: Any, learned: Any, fixed: Any
) -> tuple[Float[Array, " n"], Float[Array, " m"] | None]:
    """Reduces local rows over the keys of all devices, gathered at once.

    To be called inside `jax.shard_map`. Memory grows with local rows times all keys.

    Args:
      contrast: What is reduced.
      rows: Pytree of local rows, row axis first, with the array `query_ND`.
      keys: Pytree of local keys, key axis first, with the array `key_MD`.
      learned: Pytree of replicated, differentiable parameters (temperature, prior weights).
      fixed: Pytree of replicated data that is not differentiated (known positives).

    Returns:
      Reduction of each local row over all keys; if symmetric, of each local key over all rows.
    """
    axis = contrast.axis
    all_keys = jax.tree.map(lambda a: jax.lax.all_gather(a, axis, tiled=True), keys)
    block_NM = contrast.logits(rows, all_keys, learned, fixed)
    of_rows = contrast.reduction.dense(block_NM)
    if not contrast.symmetric:
        return of_rows, None
    largest = jax.lax.pmax(jax.lax.stop_gradient(block_NM.max(axis=0)), axis)
    summed = jax.lax.psum(jnp.exp(block_NM - largest).sum(axis=0), axis)
    count = len(keys.key_MD)
    first = jax.lax.axis_index(axis) * count
    return of_rows, jax.lax.dynamic_slice_in_dim(largest + jnp.log(summed), first, count)


def reduce_ring(
    contrast: Contrast, rows: Any, keys: Any, learned: Any, fixed: Any, chunk: int
) -> tuple[Float[Array, " n"], Float[Array, " m"] | None]:
    """Reduces local rows over the keys of all devices, with memory linear in the rows.

    The keys travel once around the devices (`ppermute`) while each device keeps a running reduction
    of its rows, `chunk` keys at a time. If symmetric, the keys' own reductions travel with them.
    The backward pass sends the keys around again, recomputes each block of logits, and lets the
    keys' gradients travel with them.

    Args:
      contrast: What is reduced.
      rows: Pytree of local rows; see `reduce_all_gather`.
      keys: Pytree of local keys; their number must be a multiple of `chunk`.
      learned: Pytree of replicated, differentiable parameters.
      fixed: Pytree of replicated data that is not differentiated.
      chunk: Number of keys per block.

    Returns:
      As `reduce_all_gather`.
    """
    # A replicated input of a custom_vjp would get the gradient of one device only. As a varying
    # input it gets the sum over devices, when this cast is transposed.
    learned = jax.tree.map(lambda a: jax.lax.pcast(a, contrast.axis, to="varying"), learned)
    chunks = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), keys)
    of_rows, of_keys = _ring(contrast, rows, chunks, learned, fixed)
    return of_rows, of_keys.reshape(-1) if contrast.symmetric else None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(
    contrast: Contrast, rows: Any, keys: Any, learned: Any, fixed: Any
) -> tuple[Float[Array, " n"], Any]:
    return _ring_forward(contrast, rows, keys, learned, fixed)[0]


def _send(tree: T, axis: str | tuple[str, ...]) -> T:
    """Sends arrays to the next device of the ring."""
    size = jax.lax.axis_size(axis)
    to_next = [(i, (i + 1) % size) for i in range(size)]
    sent: T = jax.tree.map(lambda a: jax.lax.ppermute(a, axis, to_next), tree)
    return sent


def _ring_forward(
    contrast: Contrast, rows: Any, keys: Any, learned: Any, fixed: Any
) -> tuple[tuple[Array, Any], tuple[Any, ...]]:
    reduction, axis = contrast.reduction, contrast.axis

    def over_chunks(state: Any, chunk: tuple[Any, Any]) -> tuple[Any, Any]:
        keys, of_keys = chunk
        block_NM = contrast.logits(rows, keys, learned, fixed)
        if contrast.symmetric:
            of_keys = reduction.update(of_keys, block_NM.T)
        return reduction.update(state, block_NM), of_keys

    def over_devices(_: Any, carry: Any) -> Any:
        state, (keys, of_keys) = carry
        state, of_keys = jax.lax.scan(over_chunks, state, (keys, of_keys))
        return state, _send((keys, of_keys), axis)

    of_keys = reduction.init(keys.key_MD[..., 0]) if contrast.symmetric else None
    carry = (reduction.init(rows.query_ND[:, 0]), (keys, of_keys))
    state, (_, of_keys) = jax.lax.fori_loop(0, jax.lax.axis_size(axis), over_devices, carry)
    values = (
        reduction.finalize(state),
        reduction.finalize(of_keys) if contrast.symmetric else None,
    )
    return values, (rows, keys, learned, fixed, *values)


def _ring_backward(
    contrast: Contrast, saved: tuple[Any, ...], cotangents: tuple[Array, Any]
) -> tuple[Any, Any, Any, None]:
    rows, keys, learned, fixed, of_rows, of_keys = saved
    reduction, axis = contrast.reduction, contrast.axis
    key_floats, key_ints = _partition(keys)
    row_floats, row_ints = _partition(rows)

    def logits(row_floats: Any, key_floats: Any, learned: Any, key_ints: Any) -> Array:
        rows, keys = _combine(row_floats, row_ints), _combine(key_floats, key_ints)
        return contrast.logits(rows, keys, learned, fixed)

    def over_chunks(sums: Any, chunk: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        floats, ints, key_values = chunk
        block_NM, pull = jax.vjp(partial(logits, key_ints=ints), row_floats, floats, learned)
        slope_NM = cotangents[0][:, None] * reduction.grad_weight(block_NM, of_rows)
        if contrast.symmetric:
            value_M, cotangent_M = key_values
            slope_NM += (cotangent_M[:, None] * reduction.grad_weight(block_NM.T, value_M)).T
        row_grads, key_grads, learned_grads = pull(slope_NM)
        return jax.tree.map(jnp.add, sums, (row_grads, learned_grads)), key_grads

    def over_devices(_: Any, carry: Any) -> Any:
        sums, (floats, ints, key_values, key_grads) = carry
        sums, new_grads = jax.lax.scan(over_chunks, sums, (floats, ints, key_values))
        key_grads = jax.tree.map(jnp.add, key_grads, new_grads)
        return sums, _send((floats, ints, key_values, key_grads), axis)

    sums = jax.tree.map(jnp.zeros_like, (row_floats, learned))
    key_values = (of_keys, cotangents[1]) if contrast.symmetric else None
    travelling = (key_floats, key_ints, key_values, jax.tree.map(jnp.zeros_like, key_floats))
    size = jax.lax.axis_size(axis)
    sums, travelling = jax.lax.fori_loop(0, size, over_devices, (sums, travelling))
    (row_grads, learned_grads), key_grads = sums, travelling[3]
    return row_grads, key_grads, learned_grads, None


def _partition(tree: T) -> tuple[T, T]:
    """Splits a pytree into floating-point leaves and the others; absent leaves are None."""

    def is_float(leaf: Array) -> bool:
        return bool(jnp.issubdtype(leaf.dtype, jnp.floating))

    floats: T = jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, tree)
    others: T = jax.tree.map(lambda leaf: None if is_float(leaf) else leaf, tree)
    return floats, others


def _combine(first: T, second: T) -> T:
    """Undoes `_partition`."""
    combined: T = jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
    )
    return combined


_ring.defvjp(_ring_forward, _ring_backward)
