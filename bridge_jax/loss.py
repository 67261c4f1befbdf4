"""Contrastive losses: InfoNCE over all candidates that are not known positives.

For query i with its own tail's logit o_i, keys k_j, and the set M_i of masked keys (known tails of
(h, r), and with them every copy of the row's own tail):

    loss_i = log( exp(o_i) + sum_{j not in M_i} exp(s_ij) ) - o_i,   s_ij = scale * q_i . k_j + b_ij

Source: van den Oord et al., "Representation learning with contrastive predictive coding", 2018;
the temperature is 1 / scale. Over several devices each holds some rows and some keys; the keys are
gathered (`gathered_lse`) or travel around (`ring_lse`): one contract, the same value and gradients.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

MASKED = -1e30


class KnownBits(NamedTuple):
    """Known positives of one triple type as a bit matrix on the device.

    Attributes:
      bits: `[heads, words]`; bit t % 32 of word t // 32 says that t is a known tail.
    """

    bits: UInt32[Array, "heads words"]


def known_among(
    known: KnownBits, heads: Int[Array, " n"], tails: Int[Array, " m"]
) -> Bool[Array, "n m"]:
    """Which of some tails are known positives of each head."""
    words = known.bits[heads][:, tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def known_pairs(
    known: KnownBits, heads: Int[Array, "*n"], tails: Int[Array, "*n k"]
) -> Bool[Array, "*n k"]:
    """Which of each head's own k tails are known positives."""
    words = known.bits[heads[..., None], tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def normalise(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Unit length in float32 (or wider, if the input is), for cosine scores."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))


def info_nce(own: Float[Array, "*n"], lse: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Loss of each row from its own tail's logit and the log-sum-exp of the other keys."""
    return jnp.logaddexp(own, lse) - own


def paired_nce(
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


# Rows, keys, learned numbers and indexes, all local, to logits [rows, keys]; masked ones MASKED.
Tree = Mapping[str, Any]
Logits = Callable[[Tree, Tree, Tree, Tree], Float[Array, "n m"]]


def gathered_lse(
    logits: Logits, rows: Tree, keys: Tree, learned: Tree, fixed: Tree, axis: str
) -> Float[Array, " n"]:
    """Log-sum-exp of each local row over the keys of all devices, gathered at once.

    To be called within `jax.shard_map`. Memory: local rows x all keys.

    Args:
      logits: local rows and some keys to masked logits.
      rows: local rows; every leaf has the rows in front.
      keys: local keys; every leaf has the keys in front.
      learned: replicated, differentiable (temperature, prior weights).
      fixed: replicated, not differentiable (known positives).
      axis: the mesh axis that rows and keys are spread over.
    """
    everywhere = jax.tree.map(lambda a: jax.lax.all_gather(a, axis, tiled=True), keys)
    return jax.nn.logsumexp(logits(rows, everywhere, learned, fixed), axis=1)


def ring_lse(
    logits: Logits,
    rows: Tree,
    keys: Tree,
    learned: Tree,
    fixed: Tree,
    axis: str,
    chunk: int,
) -> Float[Array, " n"]:
    """The same as `gathered_lse`, with memory linear in the rows.

    The keys travel once around the devices (`ppermute`) while each device keeps a running
    log-sum-exp of its rows, `chunk` keys at a time. The backward pass sends them around again,
    recomputes each block, and lets the keys' gradients travel with them.

    Args:
      logits: local rows and some keys to masked logits.
      rows: local rows; every leaf has the rows in front.
      keys: local keys; their number must be a multiple of `chunk`.
      learned: replicated, differentiable.
      fixed: replicated, not differentiable.
      axis: the mesh axis that rows and keys are spread over.
      chunk: keys at a time.
    """
    # A replicated input of a custom_vjp would get one device's gradient only; as a varying one it
    # gets the sum, when this cast is transposed.
    learned = jax.tree.map(lambda a: jax.lax.pcast(a, (axis,), to="varying"), learned)
    cut = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), keys)
    return _ring(logits, axis, rows, cut, learned, fixed)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _ring(
    logits: Logits, axis: str, rows: Tree, keys: Tree, learned: Tree, fixed: Tree
) -> Float[Array, " n"]:
    return _ring_forward(logits, axis, rows, keys, learned, fixed)[0]


def _send(tree: Any, axis: str) -> Any:
    size = jax.lax.axis_size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]
    return jax.tree.map(lambda a: jax.lax.ppermute(a, axis, around), tree)


def _ring_forward(
    logits: Logits, axis: str, rows: Tree, keys: Tree, learned: Tree, fixed: Tree
) -> tuple[Float[Array, " n"], tuple[Tree, Tree, Tree, Tree, Array]]:
    def over_chunks(total: tuple[Array, Array], part: Tree) -> tuple[tuple[Array, Array], None]:
        largest, summed = total
        block = logits(rows, part, learned, fixed)
        above = jnp.maximum(largest, block.max(axis=1))
        summed = summed * jnp.exp(largest - above) + jnp.exp(block - above[:, None]).sum(axis=1)
        return (above, summed), None

    def over_devices(_: Any, carry: Any) -> Any:
        total, travelling = carry
        total, _ = jax.lax.scan(over_chunks, total, travelling)
        return total, _send(travelling, axis)

    like = rows["query"][:, 0]
    start = (jnp.full_like(like, MASKED), jnp.zeros_like(like))
    carry = (start, keys)
    (largest, summed), _ = jax.lax.fori_loop(0, jax.lax.axis_size(axis), over_devices, carry)
    lse = largest + jnp.log(summed)
    return lse, (rows, keys, learned, fixed, lse)


def _ring_backward(
    logits: Logits, axis: str, saved: tuple[Tree, Tree, Tree, Tree, Array], slope: Array
) -> tuple[Tree, Tree, Tree, None]:
    rows, keys, learned, fixed, lse = saved
    moving, still = _split(keys)
    row_floats, row_ints = _split(rows)

    def block(row_part: Tree, key_part: Tree, learned_part: Tree, ids: Tree) -> Array:
        return logits({**row_part, **row_ints}, {**key_part, **ids}, learned_part, fixed)

    def over_chunks(sums: Any, part: tuple[Tree, Tree]) -> tuple[Any, Tree]:
        value, pull = jax.vjp(partial(block, ids=part[1]), row_floats, part[0], learned)
        to_rows, to_keys, to_learned = pull(slope[:, None] * jnp.exp(value - lse[:, None]))
        return jax.tree.map(jnp.add, sums, (to_rows, to_learned)), to_keys

    def over_devices(_: Any, carry: Any) -> Any:
        sums, (floats, ids, grads) = carry
        sums, found = jax.lax.scan(over_chunks, sums, (floats, ids))
        return sums, _send((floats, ids, jax.tree.map(jnp.add, grads, found)), axis)

    sums = jax.tree.map(jnp.zeros_like, (row_floats, learned))
    travelling = (moving, still, jax.tree.map(jnp.zeros_like, moving))
    size = jax.lax.axis_size(axis)
    sums, travelling = jax.lax.fori_loop(0, size, over_devices, (sums, travelling))
    (to_rows, to_learned), to_keys = sums, travelling[2]
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
