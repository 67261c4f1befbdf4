"""Scores of a trained bridge: tails are projected once, heads are bridged in blocks."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int
from ml_collections import ConfigDict

from bridge_jax.data.embedding_tables import EmbeddingTable, Transform
from bridge_jax.data.graph import TripleType
from bridge_jax.models.bridge import Bridge, Params, normalise, triple_type_ids
from bridge_jax.models.embed import bridge_heads, project_nodes
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.models.node_embedding import add_node_embedding

BLOCK = 65536  # nodes projected at a time


class BridgeScorer:
    """Scores heads against every node of the tail type.

    Called with a triple type and local head ids `[n]`, it returns logits `[n, tails]` in float32,
    as `bridge_jax.models.logits` defines them; higher is better.
    """

    name = "bridge"

    def __init__(
        self,
        model: Bridge,
        params: Params,
        tables: Mapping[str, EmbeddingTable],
        log_shares: Mapping[str, jax.Array],
        triple_types: Sequence[TripleType],
        config: ConfigDict,
        dtype: str = "float32",
    ) -> None:
        """Stores the model; tails are projected when they are first needed.

        Args:
          model: The bridge.
          params: `{"model": …}` and the learned parts of the logits.
          tables: Frozen embeddings by node type; rows are read from the host as needed.
          log_shares: Log-popularity of each tail, `[count]` float32, by triple type.
          triple_types: Triple types of the graph.
          config: The config's `loss` part.
          dtype: Dtype in which the model reads the tables.
        """
        self._model, self._params, self._tables = model, params, tables
        self._dtype = jnp.dtype(dtype)
        self.scale = scale_of(params, config)
        self._prior = {
            triple_type: prior_of(params, config, i, log_shares[str(triple_type)])
            for i, triple_type in enumerate(triple_types)
        }
        self._tails: dict[str, jax.Array] = {}
        self._project = jax.jit(partial(project_nodes, model), static_argnums=1)
        self._bridge = jax.jit(partial(_bridge_one_type, model))
        self._score = jax.jit(_score)

    def tails(self, node_type: str) -> Float[jax.Array, "count d"]:
        """Returns every node of a type as a key: projected, of unit length."""
        if node_type not in self._tails:
            count = len(self._tables[node_type].ids)
            parts = [
                self._project_rows(node_type, np.arange(i, min(i + BLOCK, count), dtype=np.int32))
                for i in range(0, count, BLOCK)
            ]
            self._tails[node_type] = normalise(jnp.concatenate(parts))
        return self._tails[node_type]

    def heads(
        self, triple_type: TripleType, nodes: Int[np.ndarray, " n"]
    ) -> Float[jax.Array, "n d"]:
        """Returns nodes of the graph as queries of a triple type: bridged, of unit length."""
        z = self._project_rows(triple_type.head, nodes)
        return self._bridge(self._params, z, triple_type_ids(self._model, [triple_type]))

    def keys(self, node_type: str, x: Float[jax.Array, "n dim"]) -> Float[jax.Array, "n d"]:
        """Returns new embeddings of a node type as keys: projected, of unit length."""
        return normalise(self._project(self._params, node_type, x))

    def queries(
        self, triple_type: TripleType, x: Float[jax.Array, "n dim"]
    ) -> Float[jax.Array, "n d"]:
        """Returns new embeddings as queries of a triple type: bridged, of unit length."""
        z = self._project(self._params, triple_type.head, x)
        return self._bridge(self._params, z, triple_type_ids(self._model, [triple_type]))

    def project_embeddings(
        self, node_type: str, x: Float[np.ndarray, "n dim"]
    ) -> Float[jax.Array, "n d"]:
        """Returns raw embeddings, as the encoder gives them, as keys."""
        inputs = jnp.asarray(self._tables[node_type].transform(x), self._dtype)
        return self.keys(node_type, inputs)

    def bridge_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"]
    ) -> Float[jax.Array, "n d"]:
        """Returns raw embeddings, as the encoder gives them, as queries of a triple type."""
        inputs = jnp.asarray(self._tables[triple_type.head].transform(x), self._dtype)
        return self.queries(triple_type, inputs)

    def score_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"]
    ) -> Float32[jax.Array, "n tails"]:
        """Scores new heads, given their raw embeddings; see the class."""
        query, key = self.bridge_embeddings(triple_type, x), self.tails(triple_type.tail)
        return self._score(query, key, self.scale, self._prior[triple_type])

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[jax.Array, "n tails"]:
        """Scores heads of the graph; see the class."""
        query, key = self.heads(triple_type, heads), self.tails(triple_type.tail)
        return self._score(query, key, self.scale, self._prior[triple_type])

    def _project_rows(self, node_type: str, nodes: np.ndarray) -> jax.Array:
        """Projects nodes of the graph, with their learned embeddings."""
        x = jnp.asarray(self._tables[node_type].model_inputs(nodes), self._dtype)
        z = self._project(self._params, node_type, x)
        return add_node_embedding(self._params, node_type, z, jnp.asarray(nodes))


def _bridge_one_type(
    model: Bridge, params: Params, z: jax.Array, triple_types: jax.Array
) -> jax.Array:
    """Bridges heads that all have the first of `triple_types`."""
    return bridge_heads(model, params, z, jnp.zeros(len(z), jnp.int32), triple_types)


def _score(query: jax.Array, key: jax.Array, scale: jax.Array, bias: jax.Array | None) -> jax.Array:
    scores = scale * (query @ key.T)
    return scores if bias is None else scores + bias


@partial(jax.jit, static_argnums=(0, 1, 2))
def embed_raw(
    model: Bridge,
    node_type: str,
    dtype: str,
    params: Params,
    transform: Transform,
    triple_types: Int[Array, "1 3"] | None,
    x: Float[Array, "n dim"],
) -> Float32[Array, "n width"]:
    """Maps raw embeddings, as an encoder gives them, to unit vectors of the shared space.

    Args:
      model: The bridge.
      node_type: Node type of the embeddings.
      dtype: Dtype in which the model reads them.
      params: `{"model": …}`.
      transform: The table's affine transform.
      triple_types: Ids of the triple type to bridge to; None for the plain projection.
      x: Raw embeddings.
    """
    mean, matrix = transform
    x = x.astype(jnp.float32) - mean
    x = x * matrix if matrix.ndim == 1 else jnp.matmul(x, matrix, precision="highest")
    z = project_nodes(model, params, node_type, x.astype(dtype))
    if triple_types is None:
        return normalise(z).astype(jnp.float32)
    return _bridge_one_type(model, params, z, triple_types).astype(jnp.float32)
