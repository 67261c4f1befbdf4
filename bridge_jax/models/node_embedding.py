"""A learned vector for each node of the graph, added to its projection.

    z_n = proj[type(n)](e_n) + r_n

It gives nodes that training sees what an embedding method gives them, a place of their own. It
starts at zero and stays there for nodes that training does not see. While training it is left out
at random, so that the bridge still works without it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from bridge_jax.data.dataset import file_name


def init_node_embeddings(
    config: ConfigDict, counts: Mapping[str, int]
) -> dict[str, dict[str, Array]]:
    """The learned vectors, as the config's `model` part asks for them.

    Args:
      config: `residual`, `width`.
      counts: nodes of each type that has embeddings.

    Returns:
      `{"node_embedding": {type (as a file's name): [count, width] float32}}`, or nothing.
    """
    if not config.node_embedding:
        return {}
    found = {file_name(t): jnp.zeros((n, config.width), jnp.float32) for t, n in counts.items()}
    return {"node_embedding": found}


def add_node_embedding(
    params: Mapping[str, Any],
    node_type: str,
    z: Float[Array, "*n d"],
    nodes: Int[Array, "*n"],
    key: jax.Array | None = None,
    rate: float = 0.0,
) -> Float[Array, "*n d"]:
    """Projected nodes with their residuals; as they are when the parameters hold none.

    Args:
      params: of the run.
      node_type: of the nodes.
      z: their projections.
      nodes: local ids.
      key: leaves residuals out at random; None keeps all.
      rate: how many are left out.
    """
    if "node_embedding" not in params:
        return z
    added = params["node_embedding"][file_name(node_type)][nodes]
    if key is not None:
        kept = jax.random.bernoulli(key, 1 - rate, nodes.shape)
        added = jnp.where(kept[..., None], added, 0)
    return z + added.astype(z.dtype)
