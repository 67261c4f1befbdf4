"""Contrastive losses: InfoNCE over all candidates that are not known positives.

For query i with positive p(i), keys k_j, and the set M_i of masked keys (known tails of (h, r),
other copies of the row's own tail):

    loss_i = -log( exp(s_i,p(i)) / sum_{j not in M_i} exp(s_ij) ),   s_ij = scale * q_i . k_j + b_j

Source: van den Oord et al., "Representation learning with contrastive predictive coding", 2018;
the temperature is 1 / scale.
"""

from typing import NamedTuple

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
    known: KnownBits, heads: Int[Array, " n"], tails: Int[Array, "n k"]
) -> Bool[Array, "n k"]:
    """Which of each head's own k tails are known positives."""
    words = known.bits[heads[:, None], tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def known_among_all(known: KnownBits, heads: Int[Array, " n"], count: int) -> Bool[Array, "n m"]:
    """Which of all `count` nodes of the tail type are known positives of each head."""
    words = known.bits[heads]
    bits = words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32) & 1
    return bits.reshape(len(heads), -1)[:, :count] == 1


def normalise(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Unit length in float32 (or wider, if the input is), for cosine scores."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))


def info_nce(
    query: Float[Array, "n d"],
    key: Float[Array, "m d"],
    positive: Int[Array, " n"],
    masked: Bool[Array, "n m"] | None,
    scale: float | Float[Array, ""],
    bias: Float[Array, " m"] | Float[Array, "n m"] | None = None,
) -> Float[Array, " n"]:
    """InfoNCE of each row against a set of keys.

    Args:
      query: unit-length bridged heads.
      key: unit-length projected tails.
      positive: the row's own tail, as an index into `key`.
      masked: keys to leave out of a row's denominator; the positive always stays in.
      scale: 1 / temperature.
      bias: added to the logits, e.g. a popularity prior.

    Returns:
      `[n]` losses in the dtype of the queries.
    """
    logits = scale * (query @ key.T)
    if bias is not None:
        logits = logits + bias
    own = jnp.take_along_axis(logits, positive[:, None], axis=1)
    if masked is not None:
        keep = ~masked | (jnp.arange(len(key)) == positive[:, None])
        logits = jnp.where(keep, logits, MASKED)
    return jax.nn.logsumexp(logits, axis=1) - own[:, 0]


def paired_nce(
    query: Float[Array, "n d"],
    own: Float[Array, "n d"],
    negatives: Float[Array, "n k d"],
    masked: Bool[Array, "n k"] | None,
    scale: float | Float[Array, ""],
) -> Float[Array, " n"]:
    """InfoNCE of each row against its own explicit negatives, the released recipe.

    Args:
      query: unit-length bridged heads.
      own: unit-length projected true tails.
      negatives: unit-length projected negative tails of the same type.
      masked: negatives that are known positives.
      scale: 1 / temperature.

    Returns:
      `[n]` losses.
    """
    true = scale * (query * own).sum(-1)
    false = scale * jnp.einsum("nd,nkd->nk", query, negatives)
    if masked is not None:
        false = jnp.where(masked, MASKED, false)
    return jax.nn.logsumexp(jnp.concatenate([true[:, None], false], axis=1), axis=1) - true
