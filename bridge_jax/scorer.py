"""A trained bridge as a scorer: tails projected once, heads bridged in blocks."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from bridge_jax import loss
from bridge_jax.graph import TripleType
from bridge_jax.logits import prior_of, scale_of
from bridge_jax.model import Bridge, Params, bridge, kind_ids, project
from bridge_jax.objective import DeviceData


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
        data: DeviceData,
        triple_types: Sequence[TripleType],
        config: ConfigDict,
    ) -> None:
        """Hold the model; tails are projected when they are first needed.

        Args:
          model: the bridge.
          params: `{"model": …}` and what `logits` learns.
          data: the tables and the log-popularities.
          triple_types: of the graph.
          config: the config's `loss` part.
        """
        self._model, self._params, self._tables = model, params, data.tables
        self._scale = scale_of(params, config)
        self._prior = {
            kind: prior_of(params, config, i, data.prior[str(kind)])
            for i, kind in enumerate(triple_types)
        }
        self._tails: dict[str, jax.Array] = {}
        self._project = jax.jit(partial(_project, model), static_argnums=1)
        self._bridge = jax.jit(partial(_bridge, model))
        self._score = jax.jit(_score)

    def tails(self, node_type: str) -> Float[jax.Array, "count d"]:
        """Every node of a type, projected and of unit length."""
        if node_type not in self._tails:
            x = self._tables[node_type]
            self._tails[node_type] = loss.normalise(self._project(self._params, node_type, x))
        return self._tails[node_type]

    def queries(self, kind: TripleType, x: Float[jax.Array, "n dim"]) -> Float[jax.Array, "n d"]:
        """Bridge embeddings of a triple type's heads; unit length."""
        z = self._project(self._params, kind.head, x)
        return self._bridge(self._params, z, kind_ids(self._model, [kind]))

    def __call__(
        self, kind: TripleType, heads: Int[np.ndarray, " n"]
    ) -> Float32[jax.Array, "n tails"]:
        """Score heads of the graph; see the class."""
        query = self.queries(kind, self._tables[kind.head][jnp.asarray(heads)])
        return self._score(query, self.tails(kind.tail), self._scale, self._prior[kind])


def _project(model: Bridge, params: Params, node_type: str, x: jax.Array) -> jax.Array:
    return project(model, params["model"], node_type, x)


def _bridge(model: Bridge, params: Params, z: jax.Array, kinds: jax.Array) -> jax.Array:
    only = jnp.zeros(len(z), jnp.int32)
    return loss.normalise(bridge(model, params["model"], z, only, kinds))


def _score(query: jax.Array, key: jax.Array, scale: jax.Array, bias: jax.Array | None) -> jax.Array:
    scores = scale * (query @ key.T)
    return scores if bias is None else scores + bias
