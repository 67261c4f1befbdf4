"""The vectors that a node has: frozen, projected, or bridged by a relation."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.baselines.tuning import unit
from bridge_jax.graph import TripleType
from bridge_jax.ranking import Scorer
from bridge_jax.run import Setup
from bridge_jax.scorer import BridgeScorer

Vectors = Float32[np.ndarray, "n dim"]


def raw(setup: Setup, node_type: str, nodes: Int[np.ndarray, " n"]) -> Vectors:
    """Frozen embeddings as they are stored."""
    return np.asarray(setup.tables[node_type].stored[nodes], np.float32)


def read(setup: Setup, node_type: str, x: Vectors) -> jax.Array:
    """Stored embeddings as the model reads those of a type."""
    return jnp.asarray(setup.tables[node_type].prepare(x))


def views(
    setup: Setup,
    scorer: BridgeScorer,
    node_type: str,
    nodes: Int[np.ndarray, " n"],
    kinds: Mapping[str, TripleType],
) -> dict[str, Vectors]:
    """The vectors of some nodes of one type.

    Args:
      setup: of the run.
      scorer: the bridge.
      node_type: whose nodes.
      nodes: local ids.
      kinds: triple types with that head, each with the name of its view.

    Returns:
      `raw`, as stored; `projected`, unit length; and for each of `kinds` the bridged ones.
    """
    stored = raw(setup, node_type, nodes)
    x = read(setup, node_type, stored)
    bridged = {name: np.asarray(scorer.queries(kind, x)) for name, kind in kinds.items()}
    return {"raw": stored, "projected": np.asarray(scorer.tails(node_type)[nodes]), **bridged}


def cosine(
    heads: Vectors, tails: Float32[np.ndarray, "tails dim"]
) -> Float32[jax.Array, "n tails"]:
    """Cosine of every head with every tail."""
    return jnp.asarray(unit(heads) @ unit(tails).T)


def looked_up(heads: Int[np.ndarray, " n"], scores: Float32[jax.Array, "n tails"]) -> Scorer:
    """A scorer that knows some heads alone: ascending, a row of scores each."""
    return lambda _, rows: scores[np.searchsorted(heads, rows)]
