"""Random: uniform scores, the level of chance."""

import zlib
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType


class Random:
    """Uniform scores that depend only on the seed, the triple type and the head."""

    name = "random"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
        *,
        seed: int = 0,
    ) -> None:
        self._num_nodes = dict(zip(graph.node_types, graph.counts, strict=True))
        self._key = jax.random.key(seed)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        key = jax.random.fold_in(self._key, zlib.crc32(str(triple_type).encode()))
        return _uniform(key, jnp.asarray(heads, jnp.int32), self._num_nodes[triple_type.tail])


@partial(jax.jit, static_argnums=2)
def _uniform(key: Array, heads: Array, num_nodes: int) -> Array:
    keys = jax.vmap(lambda head: jax.random.fold_in(key, head))(heads)
    return jax.vmap(lambda k: jax.random.uniform(k, (num_nodes,), jnp.float32))(keys)
