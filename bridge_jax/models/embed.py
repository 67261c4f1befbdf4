"""From frozen embeddings to unit vectors of the shared space: the one place that does so.

    tail:   normalise(proj[type](e) + node_embedding)
    head:   normalise(bridge(proj[type](e) + node_embedding, triple type))

Training, scoring and projection call these functions under their own `jit`.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from bridge_jax.models.bridge import Bridge, bridge, normalise, project
from bridge_jax.models.node_embedding import add_node_embedding


def project_nodes(
    model: Bridge,
    params: Mapping[str, Any],
    node_type: str,
    x: Float[Array, "*n dim"],
    nodes: Int[Array, "*n"] | None = None,
    dropout_key: jax.Array | None = None,
    dropout: float = 0.0,
) -> Float[Array, "*n d"]:
    """Projects frozen embeddings of one node type and adds the learned node embeddings.

    Args:
      model: The bridge.
      params: Parameters of the run: `{"model": …}` and, if learned, `node_embedding`.
      node_type: Node type of `x`.
      x: Frozen embeddings after the table's transform.
      nodes: Local ids of the nodes; default: new nodes, which have no learned embedding.
      dropout_key: Key that drops node embeddings at random; default: none is dropped.
      dropout: Fraction of node embeddings that are dropped.

    Returns:
      Projections z, not normalised.
    """
    flat = project(model, params["model"], node_type, x.reshape(-1, x.shape[-1]))
    z = flat.reshape(*x.shape[:-1], -1)
    if nodes is None:
        return z
    return add_node_embedding(params, node_type, z, nodes, dropout_key, dropout)


def bridge_heads(
    model: Bridge,
    params: Mapping[str, Any],
    z: Float[Array, "n d"],
    triple_type: Int[Array, " n"],
    triple_types: Int[Array, "t 3"],
    dropout_key: jax.Array | None = None,
) -> Float[Array, "n d"]:
    """Bridges projected heads and scales them to unit length: the queries.

    Args:
      model: The bridge.
      params: Parameters of the run.
      z: Projected heads.
      triple_type: Triple type of each row, as an index into `triple_types`.
      triple_types: Ids (head type, relation, tail type) of the triple types.
      dropout_key: Key of the dropout masks; default: no dropout.
    """
    return normalise(bridge(model, params["model"], z, triple_type, triple_types, dropout_key))
