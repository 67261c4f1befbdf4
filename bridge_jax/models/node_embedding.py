"""A learned vector for each node of the graph, added to its projection.

    z_n = proj[type(n)](e_n) + u_n

It gives nodes seen in training a position of their own, as a knowledge-graph embedding does. It
starts at zero and stays zero for nodes that training never sees. Training drops it at random, so
that the bridge still works for new nodes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from bridge_jax.data.manifest import file_name

NODE_EMBEDDING = "node_embedding"  # key in the parameters


def init_node_embeddings(
    config: ConfigDict, counts: Mapping[str, int]
) -> dict[str, dict[str, Array]]:
    """Initialises the learned vectors, if the config's `model` part asks for them.

    Args:
      config: The `model` part: `node_embedding`, `width`.
      counts: Number of nodes of each type that has frozen embeddings.

    Returns:
      `{"node_embedding": {type as a file name: [count, width] float32}}`, or an empty dict.
    """
    if not config.node_embedding:
        return {}
    zeros = {file_name(t): jnp.zeros((n, config.width), jnp.float32) for t, n in counts.items()}
    return {NODE_EMBEDDING: zeros}


def add_node_embedding(
    params: Mapping[str, Any],
    node_type: str,
    z: Float[Array, "*n d"],
    nodes: Int[Array, "*n"],
    dropout_key: jax.Array | None = None,
    dropout: float = 0.0,
) -> Float[Array, "*n d"]:
    """Adds learned vectors to projected nodes; returns `z` unchanged if there are none.

    Args:
      params: Parameters of the run.
      node_type: Node type of the nodes.
      z: Projections.
      nodes: Local ids.
      dropout_key: Key that drops vectors at random; default: none is dropped.
      dropout: Fraction of vectors that are dropped.
    """
    if NODE_EMBEDDING not in params:
        return z
    added = params[NODE_EMBEDDING][file_name(node_type)][nodes]
    if dropout_key is not None:
        kept = jax.random.bernoulli(dropout_key, 1 - dropout, nodes.shape)
        added = jnp.where(kept[..., None], added, 0)
    return z + added.astype(z.dtype)
