"""What every training step reads: embedding tables and known positives, on the devices."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from bridge_jax.data.graph import Graph, Known, known_positives
from bridge_jax.distributed.mesh import replicated
from bridge_jax.distributed.placement import put_tables
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.logits import popularities


class KnownBits(NamedTuple):
    """Known positives of one triple type as a bit matrix on the device.

    Attributes:
      bits: `[heads, words]`; bit t % 32 of word t // 32 says that t is a known tail.
    """

    bits: UInt32[Array, "heads words"]


class DeviceData(NamedTuple):
    """What every step reads and none changes.

    Attributes:
      tables: `[count, dim]` by node type.
      known: training positives by triple type (its string).
      train_nodes: local ids by node type; held-out nodes are never negatives.
      candidates: the same as `[shards, columns]`, padded with -1.
      prior: log-popularity of each tail, `[count]` float32 by triple type.
    """

    tables: Mapping[str, jax.Array]
    known: Mapping[str, KnownBits]
    train_nodes: Mapping[str, jax.Array]
    candidates: Mapping[str, jax.Array]
    prior: Mapping[str, jax.Array]


def known_bits(known: Known, tails: int) -> KnownBits:
    """Known positives as a bit matrix `[heads, ceil(tails / 32)]` uint32."""
    heads = len(known.indptr) - 1
    rows = np.repeat(np.arange(heads), np.diff(known.indptr))
    bits = np.zeros((heads, -(-tails // 32)), np.uint32)
    np.bitwise_or.at(
        bits, (rows, known.tails // 32), np.uint32(1) << (known.tails % 32).astype(np.uint32)
    )
    return KnownBits(jnp.asarray(bits))


def device_data(graph: Graph, tables: Mapping[str, jax.Array], shards: int = 1) -> DeviceData:
    """Build what the objective reads, from training facts alone.

    Args:
      graph: the split graph.
      tables: `[count, dim]` by node type.
      shards: into how many parts a batch can be cut.
    """
    sizes = dict(zip(graph.node_types, graph.counts, strict=True))
    known = known_positives(graph, ["train"])
    return DeviceData(
        tables,
        {str(k): known_bits(v, sizes[k.tail]) for k, v in known.items()},
        {t: jnp.asarray(graph.train_nodes(t)) for t in graph.node_types},
        {t: jnp.asarray(_in_shards(graph.train_nodes(t), shards)) for t in graph.node_types},
        popularities(graph, known),
    )


def _in_shards(nodes: np.ndarray, shards: int) -> np.ndarray:
    return np.pad(nodes, (0, -len(nodes) % shards), constant_values=-1).reshape(shards, -1)


def known_among(
    known: KnownBits, heads: Int[Array, " n"], tails: Int[Array, " m"]
) -> Bool[Array, "n m"]:
    """Which of some tails are known positives of each head."""
    words = known.bits[heads][:, tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def known_pairs(
    known: KnownBits, heads: Int[Array, "*n"], tails: Int[Array, "*n k"]
) -> Bool[Array, "*n k"]:
    """Which of each head's own k tails are known positives."""
    words = known.bits[heads[..., None], tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def put_device_data(experiment: Experiment) -> DeviceData:
    """Puts the tables and known positives of an experiment on its devices."""
    tables = put_tables(
        experiment.tables, experiment.placement, experiment.mesh, experiment.config.tables.dtype
    )
    rest = device_data(experiment.graph, {}, experiment.config.batch.shards)
    return jax.device_put(rest, replicated(experiment.mesh))._replace(tables=tables)
