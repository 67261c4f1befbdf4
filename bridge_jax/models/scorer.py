"""A trained bridge as a scorer: tails projected once, heads bridged in blocks."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from bridge_jax.data.embedding_tables import Table
from bridge_jax.data.graph import TripleType
from bridge_jax.models.bridge import Bridge, Params, bridge, normalise, project, triple_type_ids
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.models.node_embedding import add_node_embedding

# Nodes projected at a time.
BLOCK = 65536


class BridgeScorer:
    """Scores of heads against every node of the tail type.

    Called with a triple type and local head ids `[n]`, it returns float32 `[n, tails]`:
    logits as `logits` defines them; higher is better.
    """

    name = "bridge"

    def __init__(
        self,
        model: Bridge,
        params: Params,
        tables: Mapping[str, Table],
        prior: Mapping[str, jax.Array],
        triple_types: Sequence[TripleType],
        config: ConfigDict,
        dtype: str = "float32",
    ) -> None:
        """Hold the model; tails are projected when they are first needed.

        Args:
          model: the bridge.
          params: `{"model": …}` and what `logits` learns.
          tables: frozen embeddings; what is asked for is read from the host.
          prior: log-popularity of each tail, `[count]` float32 by triple type.
          triple_types: of the graph.
          config: the config's `loss` part.
          dtype: in which the model reads the tables.
        """
        self._model, self._params, self._tables = model, params, tables
        self._dtype = jnp.dtype(dtype)
        self.scale = scale_of(params, config)
        self._prior = {
            triple_type: prior_of(params, config, i, prior[str(triple_type)])
            for i, triple_type in enumerate(triple_types)
        }
        self._tails: dict[str, jax.Array] = {}
        self._project = jax.jit(partial(_project, model), static_argnums=1)
        self._bridge = jax.jit(partial(_bridge, model))
        self._score = jax.jit(_score)

    def tails(self, node_type: str) -> Float[jax.Array, "count d"]:
        """Every node of a type, projected and of unit length."""
        if node_type not in self._tails:
            count = len(self._tables[node_type].ids)
            parts = [
                self._embed(node_type, np.arange(at, min(at + BLOCK, count), dtype=np.int32))
                for at in range(0, count, BLOCK)
            ]
            self._tails[node_type] = normalise(jnp.concatenate(parts))
        return self._tails[node_type]

    def heads(
        self, triple_type: TripleType, nodes: Int[np.ndarray, " n"]
    ) -> Float[jax.Array, "n d"]:
        """Nodes of the graph bridged by a triple type; unit length."""
        z = self._embed(triple_type.head, nodes)
        return self._bridge(self._params, z, triple_type_ids(self._model, [triple_type]))

    def _embed(self, node_type: str, nodes: np.ndarray) -> jax.Array:
        """Nodes of the graph, projected, with their residuals."""
        x = jnp.asarray(self._tables[node_type].rows(nodes), self._dtype)
        z = self._project(self._params, node_type, x)
        return add_node_embedding(self._params, node_type, z, jnp.asarray(nodes))

    def keys(self, node_type: str, x: Float[jax.Array, "n dim"]) -> Float[jax.Array, "n d"]:
        """Project new embeddings as those of a type; unit length."""
        return normalise(self._project(self._params, node_type, x))

    def queries(
        self, triple_type: TripleType, x: Float[jax.Array, "n dim"]
    ) -> Float[jax.Array, "n d"]:
        """Bridge new embeddings as a triple type's heads; unit length."""
        z = self._project(self._params, triple_type.head, x)
        return self._bridge(self._params, z, triple_type_ids(self._model, [triple_type]))

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[jax.Array, "n tails"]:
        """Score heads of the graph; see the class."""
        return self._score(
            self.heads(triple_type, heads),
            self.tails(triple_type.tail),
            self.scale,
            self._prior[triple_type],
        )


def _project(model: Bridge, params: Params, node_type: str, x: jax.Array) -> jax.Array:
    return project(model, params["model"], node_type, x)


def _bridge(model: Bridge, params: Params, z: jax.Array, triple_types: jax.Array) -> jax.Array:
    only = jnp.zeros(len(z), jnp.int32)
    return normalise(bridge(model, params["model"], z, only, triple_types))


def _score(query: jax.Array, key: jax.Array, scale: jax.Array, bias: jax.Array | None) -> jax.Array:
    scores = scale * (query @ key.T)
    return scores if bias is None else scores + bias
