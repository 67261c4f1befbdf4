"""From cosine to logit: a temperature and a popularity prior, fixed or learned.

    logit(h, r, t) = scale * cosine(bridge(h, r), z_t) + w_r * log share_r(t)

`scale` is 1 / temperature. `share_r(t)` is the tail's share of the training pairs of the triple
type. With the prior, the vectors need not encode that a tail is popular; its weight w is one number
per triple type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int
from ml_collections import ConfigDict

from bridge_jax.data.graph import Graph, Known, Pairs, TripleType

LARGEST_SCALE = 200.0
# Initial bias of the sigmoid loss: at the start nearly every pair is false.
FIRST_BIAS = -10.0


def init_logits(config: ConfigDict, triple_types: Sequence[TripleType]) -> dict[str, jax.Array]:
    """Initialises what the config's `loss` part asks to learn.

    Args:
      config: The `loss` part: `type`, `temperature`, `learn_temperature`, `prior`, `learn_prior`.
      triple_types: Triple types of the graph.

    Returns:
      `log_scale` (scalar), `bias` (scalar) and `prior` (`[t]`), each only if it is learned. The
      bias is the same for all tails: training needs it, a ranking does not.
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
    """Returns 1 / temperature; a learned one is kept between 1 and `LARGEST_SCALE`."""
    if not config.learn_temperature:
        return jnp.asarray(1 / config.temperature, jnp.float32)
    return jnp.exp(jnp.clip(params["log_scale"], 0.0, np.log(LARGEST_SCALE)))


def prior_of(
    params: Mapping[str, Any], config: ConfigDict, index: int, log_share: Float[Array, " tails"]
) -> Float[Array, " tails"] | None:
    """Returns what the prior adds to the logits of a triple type; None if there is no prior.

    Args:
      params: Parameters of the run.
      config: The config's `loss` part.
      index: Position of the triple type among those of the graph.
      log_share: Log-popularity of each tail.
    """
    if config.learn_prior:
        return params["prior"][index] * log_share
    return config.prior * log_share if config.prior else None


def tail_counts(tails: Int[np.ndarray, " pairs"], num_tails: int) -> Int[np.ndarray, " tails"]:
    """Counts the training pairs of each tail: its popularity.

    Args:
      tails: Local id of the tail of each training pair of a triple type.
      num_tails: Number of nodes of the tail type.
    """
    return np.bincount(tails, minlength=num_tails)


def log_tail_counts(
    train: Mapping[TripleType, Pairs], graph: Graph
) -> dict[TripleType, Float32[np.ndarray, " tails"]]:
    """Computes log(1 + number of training facts) of every tail of every triple type.

    Args:
      train: Training pairs of each triple type.
      graph: The split graph, for the number of nodes.
    """
    return {
        triple_type: np.log1p(
            tail_counts(pairs.tails, graph.counts[graph.type_id(triple_type.tail)])
        ).astype(np.float32)
        for triple_type, pairs in train.items()
    }


def log_popularity(known: Known, num_tails: int) -> Float32[np.ndarray, " tails"]:
    """Returns the log of each tail's share of the training pairs, with add-one smoothing.

    Args:
      known: Known positives of a triple type.
      num_tails: Number of nodes of the tail type.
    """
    counts = tail_counts(known.tails, num_tails) + 1.0
    return np.log(counts / counts.sum()).astype(np.float32)


def popularities(graph: Graph, known: Mapping[TripleType, Known]) -> dict[str, jax.Array]:
    """Returns the log-popularity of each tail, `[count]` float32, by triple type (as text).

    Args:
      graph: Graph that gives the number of nodes of each type.
      known: Known positives by triple type.
    """
    sizes = dict(zip(graph.node_types, graph.counts, strict=True))
    return {str(k): jnp.asarray(log_popularity(v, sizes[k.tail])) for k, v in known.items()}
