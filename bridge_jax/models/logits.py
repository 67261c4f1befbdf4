"""From cosine to logit: a temperature and a popularity prior, fixed or learned.

    logit(h, r, t) = scale * cosine(bridge(h, r), z_t) + w_r * log share_r(t)

`share_r(t)` is the tail's share of the triple type's training pairs. The prior takes from the
vectors the burden of saying that a tail is popular; its weight is one number a triple type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from bridge_jax.data.graph import Graph, Known, TripleType

LARGEST_SCALE = 200.0
# Of the sigmoid loss: at the start nearly every pair is false.
FIRST_BIAS = -10.0


def init_logits(config: ConfigDict, triple_types: Sequence[TripleType]) -> dict[str, jax.Array]:
    """The learned numbers, as the config's `loss` part asks for them.

    Args:
      config: `kind`, `temperature`, `learn_temperature`, `prior`, `learn_prior`.
      kinds: the graph's triple types.

    Returns:
      `log_scale` (scalar), `bias` (scalar) and `prior` (`[kinds]`), each only when it is learned.
      The bias is the same for all tails: training needs it, a ranking does not.
    """
    learned = {}
    if config.learn_temperature:
        learned["log_scale"] = jnp.asarray(-np.log(config.temperature), jnp.float32)
    if config.type == "sigmoid":
        learned["bias"] = jnp.asarray(FIRST_BIAS, jnp.float32)
    if config.learn_prior:
        learned["prior"] = jnp.full(len(triple_types), config.prior, jnp.float32)
    return learned


def scale_of(params: Mapping[str, Any], config: ConfigDict) -> Float[Array, ""]:
    """1 / temperature, between 1 and `LARGEST_SCALE` when it is learned."""
    if not config.learn_temperature:
        return jnp.asarray(1 / config.temperature, jnp.float32)
    return jnp.exp(jnp.clip(params["log_scale"], 0.0, np.log(LARGEST_SCALE)))


def prior_of(
    params: Mapping[str, Any], config: ConfigDict, index: int, share: Float[Array, " tails"]
) -> Float[Array, " tails"] | None:
    """What the prior adds to the logits of a triple type; None when there is none.

    Args:
      params: of the run.
      config: the config's `loss` part.
      index: of the triple type among the graph's.
      share: log-popularity of each tail.
    """
    if config.learn_prior:
        return params["prior"][index] * share
    return config.prior * share if config.prior else None


def log_popularity(known: Known, tails: int) -> np.ndarray:
    """Log of each tail's share of a triple type's training pairs, add-one smoothed, `[tails]`."""
    counts = np.bincount(known.tails, minlength=tails) + 1.0
    return np.log(counts / counts.sum()).astype(np.float32)


def popularities(graph: Graph, known: Mapping[TripleType, Known]) -> dict[str, jax.Array]:
    """Log-popularity of each tail, `[count]` float32 by triple type, among known facts."""
    sizes = dict(zip(graph.node_types, graph.counts, strict=True))
    return {str(k): jnp.asarray(log_popularity(v, sizes[k.tail])) for k, v in known.items()}
