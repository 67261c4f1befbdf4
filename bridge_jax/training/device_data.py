"""Data that every training step reads and none changes, placed on the devices."""

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
    """Known positives of one triple type as a bit matrix.

    Attributes:
      bits: `[heads, words]`; bit t % 32 of word t // 32 is set if t is a known tail of the head.
    """

    bits: UInt32[Array, "heads words"]


class DeviceData(NamedTuple):
    """Data that every training step reads.

    Attributes:
      tables: Frozen embeddings `[count, dim]` by node type.
      known: Training positives by triple type (as text).
      train_nodes: Local ids by node type; held-out nodes are never negatives.
      candidates: The same ids as `[shards, columns]`, padded with -1.
      log_shares: Log-popularity of each tail, `[count]` float32, by triple type.
    """

    tables: Mapping[str, jax.Array]
    known: Mapping[str, KnownBits]
    train_nodes: Mapping[str, jax.Array]
    candidates: Mapping[str, jax.Array]
    log_shares: Mapping[str, jax.Array]


def put_device_data(experiment: Experiment) -> DeviceData:
    """Puts the tables and known positives of an experiment on its devices."""
    config = experiment.config
    tables = put_tables(
        experiment.tables, experiment.placement, experiment.mesh, config.tables.dtype
    )
    without_tables = device_data(experiment.graph, {}, config.batch.shards)
    placed = jax.device_put(without_tables, replicated(experiment.mesh))
    return placed._replace(tables=tables)


def device_data(graph: Graph, tables: Mapping[str, jax.Array], shards: int = 1) -> DeviceData:
    """Builds the data of the training steps from the training facts alone.

    Args:
      graph: Split graph.
      tables: Frozen embeddings `[count, dim]` by node type.
      shards: Number of equal parts of a batch.
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


def known_bits(known: Known, num_tails: int) -> KnownBits:
    """Converts known positives to a bit matrix `[heads, ceil(num_tails / 32)]` uint32."""
    heads = len(known.indptr) - 1
    rows = np.repeat(np.arange(heads), np.diff(known.indptr))
    bits = np.zeros((heads, -(-num_tails // 32)), np.uint32)
    np.bitwise_or.at(
        bits, (rows, known.tails // 32), np.uint32(1) << (known.tails % 32).astype(np.uint32)
    )
    return KnownBits(jnp.asarray(bits))


def known_among(
    known: KnownBits, heads: Int[Array, " n"], tails: Int[Array, " m"]
) -> Bool[Array, "n m"]:
    """Looks up which of some tails are known positives of each head.

    Args:
      known: Known positives of the triple type.
      heads: Local ids of the heads.
      tails: Local ids of the tails, the same for all heads.
    """
    words = known.bits[heads][:, tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def known_pairs(
    known: KnownBits, heads: Int[Array, "*n"], tails: Int[Array, "*n k"]
) -> Bool[Array, "*n k"]:
    """Looks up which of each head's own k tails are known positives.

    Args:
      known: Known positives of the triple type.
      heads: Local ids of the heads.
      tails: Local ids of the tails, k for each head.
    """
    words = known.bits[heads[..., None], tails // 32]
    return (words >> (tails % 32).astype(jnp.uint32)) & 1 == 1


def _in_shards(nodes: np.ndarray, shards: int) -> np.ndarray:
    return np.pad(nodes, (0, -len(nodes) % shards), constant_values=-1).reshape(shards, -1)
