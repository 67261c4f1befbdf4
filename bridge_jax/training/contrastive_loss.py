"""Contrastive losses: InfoNCE over all candidates that are not known positives.

For query i with its own tail's logit o_i, keys k_j, and the set M_i of masked keys (known tails of
(h, r), and with them every copy of the row's own tail):

    loss_i = log( exp(o_i) + sum_{j not in M_i} exp(s_ij) ) - o_i,   s_ij = scale * q_i . k_j + b_ij

The symmetric loss is the mean of this and of the same with rows and keys exchanged. The sigmoid
loss asks of each pair alone whether it is true, with a learned bias in the logits:

    loss_i = softplus(-o_i) + sum_{j not in M_i} softplus(s_ij)

Sources: van den Oord et al., "Representation learning with contrastive predictive coding", 2018;
Zhai et al., "Sigmoid loss for language image pre-training", 2023. The temperature is 1 / scale.
Over several devices each holds some rows and some keys; the keys are gathered (`gathered`) or
travel around (`ring`): one contract, the same value and gradients.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -1e30


def info_nce(own: Float[Array, "*n"], lse: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Loss of each row from its own tail's logit and the log-sum-exp of the other keys."""
    return jnp.logaddexp(own, lse) - own


def sigmoid_nce(own: Float[Array, "*n"], others: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Loss of each row from its own tail's logit and the summed softplus of the other keys."""
    return jax.nn.softplus(-own) + others


def sampled_nce(
    query: Float[Array, "*n d"],
    own: Float[Array, "*n d"],
    negatives: Float[Array, "*n k d"],
    masked: Bool[Array, "*n k"] | None,
    scale: float | Float[Array, ""],
) -> Float[Array, "*n"]:
    """InfoNCE of each row against its own explicit negatives, the released recipe.

    Args:
      query: unit-length bridged heads.
      own: unit-length projected true tails.
      negatives: unit-length projected negative tails of the same type.
      masked: negatives that are known positives.
      scale: 1 / temperature.

    Returns:
      A loss for each row.
    """
    true = scale * (query * own).sum(-1)
    false = scale * jnp.einsum("...d,...kd->...k", query, negatives)
    if masked is not None:
        false = jnp.where(masked, MASKED, false)
    return info_nce(true, jax.nn.logsumexp(false, axis=-1))


class Reduction(NamedTuple):
    """How the logits of a row, over all keys, become one number.

    Attributes:
      empty: the state before the first block, from anything `[n]`.
      add: a state and a block `[n, m]` to the next state.
      value: a state to `[n]`.
      weight: a block and the final value to the value's slope in the block.
      whole: all logits at once to `[n]`, differentiable.
      of_row: own logit and value to the loss.
    """

    empty: Callable[[Array], Any]
    add: Callable[[Any, Array], Any]
    value: Callable[[Any], Array]
    weight: Callable[[Array, Array], Array]
    whole: Callable[[Array], Array]
    of_row: Callable[[Array, Array], Array]


def _add_exp(state: tuple[Array, Array], block: Array) -> tuple[Array, Array]:
    largest, summed = state
    above = jnp.maximum(largest, block.max(axis=1))
    summed = summed * jnp.exp(largest - above) + jnp.exp(block - above[:, None]).sum(axis=1)
    return above, summed


SOFTMAX = Reduction(
    empty=lambda like: (jnp.full_like(like, MASKED), jnp.zeros_like(like)),
    add=_add_exp,
    value=lambda state: state[0] + jnp.log(state[1]),
    weight=lambda block, lse: jnp.exp(block - lse[:, None]),
    whole=lambda block: jax.nn.logsumexp(block, axis=1),
    of_row=info_nce,
)
SIGMOID = Reduction(
    empty=jnp.zeros_like,
    add=lambda state, block: state + jax.nn.softplus(block).sum(axis=1),
    value=lambda state: state,
    weight=lambda block, _: jax.nn.sigmoid(block),
    whole=lambda block: jax.nn.softplus(block).sum(axis=1),
    of_row=sigmoid_nce,
)

# Rows, keys, learned numbers and indexes, all local, to logits [rows, keys]; masked ones MASKED.
Tree = Mapping[str, Any]
Logits = Callable[[Tree, Tree, Tree, Tree], Float[Array, "n m"]]


class Contrast(NamedTuple):
    """What is reduced, and over which devices.

    Attributes:
      logits: local rows and some keys to masked logits.
      reduction: of each row over all keys.
      axis: the mesh axis, or axes, that rows and keys are spread over.
      both: reduce each key over all rows as well (softmax alone: for the symmetric loss).
    """

    logits: Logits
    reduction: Reduction
    axis: str | tuple[str, ...]
    both: bool = False


def gathered(
    contrast: Contrast, rows: Tree, keys: Tree, learned: Tree, fixed: Tree
) -> tuple[Float[Array, " n"], Float[Array, " m"] | None]:
    """Reduce local rows over the keys of all devices, gathered at once.

    To be called within `jax.shard_map`. Memory: local rows x all keys.

    Args:
      contrast: what is reduced.
      rows: local rows; every leaf has the rows in front.
      keys: local keys; every leaf has the keys in front.
      learned: replicated, differentiable (temperature, prior weights).
      fixed: replicated, not differentiable (known positives).

    Returns:
      Of each local row over all keys, and with `both` of each local key over all rows.
    """
    axis = contrast.axis
    everywhere = jax.tree.map(lambda a: jax.lax.all_gather(a, axis, tiled=True), keys)
    block = contrast.logits(rows, everywhere, learned, fixed)
    of_rows = contrast.reduction.whole(block)
    if not contrast.both:
        return of_rows, None
    largest = jax.lax.pmax(jax.lax.stop_gradient(block.max(axis=0)), axis)
    summed = jax.lax.psum(jnp.exp(block - largest).sum(axis=0), axis)
    count = len(jax.tree.leaves(keys)[0])
    first = jax.lax.axis_index(axis) * count
    return of_rows, jax.lax.dynamic_slice_in_dim(largest + jnp.log(summed), first, count)


def ring(
    contrast: Contrast, rows: Tree, keys: Tree, learned: Tree, fixed: Tree, chunk: int
) -> tuple[Float[Array, " n"], Float[Array, " m"] | None]:
    """The same as `gathered`, with memory linear in the rows.

    The keys travel once around the devices (`ppermute`) while each device keeps a running
    reduction of its rows, `chunk` keys at a time; with `both` the keys' own reductions travel with
    them. The backward pass sends them around again, recomputes each block, and lets the keys'
    gradients travel with them.

    Args:
      contrast: what is reduced.
      rows: local rows; every leaf has the rows in front.
      keys: local keys; their number must be a multiple of `chunk`.
      learned: replicated, differentiable.
      fixed: replicated, not differentiable.
      chunk: keys at a time.
    """
    # A replicated input of a custom_vjp would get one device's gradient only; as a varying one it
    # gets the sum, when this cast is transposed.
    learned = jax.tree.map(lambda a: jax.lax.pcast(a, contrast.axis, to="varying"), learned)
    cut = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), keys)
    of_rows, of_keys = _ring(contrast, rows, cut, learned, fixed)
    return of_rows, of_keys.reshape(-1) if contrast.both else None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(
    contrast: Contrast, rows: Tree, keys: Tree, learned: Tree, fixed: Tree
) -> tuple[Float[Array, " n"], Any]:
    return _ring_forward(contrast, rows, keys, learned, fixed)[0]


def _send(tree: Any, axis: str | tuple[str, ...]) -> Any:
    size = jax.lax.axis_size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]
    return jax.tree.map(lambda a: jax.lax.ppermute(a, axis, around), tree)


def _ring_forward(
    contrast: Contrast, rows: Tree, keys: Tree, learned: Tree, fixed: Tree
) -> tuple[tuple[Array, Any], tuple[Any, ...]]:
    reduction, axis = contrast.reduction, contrast.axis

    def over_chunks(state: Any, part: tuple[Tree, Any]) -> tuple[Any, Any]:
        keys, of_keys = part
        block = contrast.logits(rows, keys, learned, fixed)
        if contrast.both:
            of_keys = reduction.add(of_keys, block.T)
        return reduction.add(state, block), of_keys

    def over_devices(_: Any, carry: Any) -> Any:
        state, (keys, of_keys) = carry
        state, of_keys = jax.lax.scan(over_chunks, state, (keys, of_keys))
        return state, _send((keys, of_keys), axis)

    of_keys = reduction.empty(keys["key"][..., 0]) if contrast.both else None
    carry = (reduction.empty(rows["query"][:, 0]), (keys, of_keys))
    state, (_, of_keys) = jax.lax.fori_loop(0, jax.lax.axis_size(axis), over_devices, carry)
    values = (reduction.value(state), reduction.value(of_keys) if contrast.both else None)
    return values, (rows, keys, learned, fixed, *values)


def _ring_backward(
    contrast: Contrast, saved: tuple[Any, ...], slopes: tuple[Array, Any]
) -> tuple[Tree, Tree, Tree, None]:
    rows, keys, learned, fixed, of_rows, of_keys = saved
    reduction, axis = contrast.reduction, contrast.axis
    moving, still = _split(keys)
    row_floats, row_ints = _split(rows)

    def logits(row_part: Tree, key_part: Tree, learned_part: Tree, ids: Tree) -> Array:
        return contrast.logits({**row_part, **row_ints}, {**key_part, **ids}, learned_part, fixed)

    def over_chunks(sums: Any, part: tuple[Tree, Tree, Any]) -> tuple[Any, Tree]:
        floats, ids, ends = part
        block, pull = jax.vjp(partial(logits, ids=ids), row_floats, floats, learned)
        slope = slopes[0][:, None] * reduction.weight(block, of_rows)
        if contrast.both:
            value, slope_of_key = ends
            slope += (slope_of_key[:, None] * reduction.weight(block.T, value)).T
        to_rows, to_keys, to_learned = pull(slope)
        return jax.tree.map(jnp.add, sums, (to_rows, to_learned)), to_keys

    def over_devices(_: Any, carry: Any) -> Any:
        sums, (floats, ids, ends, grads) = carry
        sums, found = jax.lax.scan(over_chunks, sums, (floats, ids, ends))
        return sums, _send((floats, ids, ends, jax.tree.map(jnp.add, grads, found)), axis)

    sums = jax.tree.map(jnp.zeros_like, (row_floats, learned))
    ends = (of_keys, slopes[1]) if contrast.both else None
    travelling = (moving, still, ends, jax.tree.map(jnp.zeros_like, moving))
    size = jax.lax.axis_size(axis)
    sums, travelling = jax.lax.fori_loop(0, size, over_devices, (sums, travelling))
    (to_rows, to_learned), to_keys = sums, travelling[3]
    return (
        {**to_rows, **dict.fromkeys(row_ints)},
        {**to_keys, **dict.fromkeys(still)},
        to_learned,
        None,
    )


def _split(tree: Tree) -> tuple[dict[str, Array], dict[str, Array]]:
    """Floating-point leaves, and the others, of a flat dict."""
    floats = {k: v for k, v in tree.items() if jnp.issubdtype(v.dtype, jnp.floating)}
    return floats, {k: v for k, v in tree.items() if k not in floats}


_ring.defvjp(_ring_forward, _ring_backward)
