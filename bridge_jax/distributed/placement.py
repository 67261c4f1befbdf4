"""Placement of the frozen tables during training: on every device, sharded, or on the host.

    replicated   every device holds every table
    sharded      each device along the mesh axis `table` holds a part of every table
    host         tables stay memory-mapped on the host; each batch carries its own vectors

The batches are the same with each placement; only memory and traffic differ.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bridge_jax.data.batches import Batch, Group
from bridge_jax.data.embedding_tables import EmbeddingTable
from bridge_jax.distributed.mesh import AXES, replicated
from bridge_jax.errors import InputError, unknown

PLACEMENTS = ("auto", "replicated", "sharded", "host")
# Fraction of a device's memory for tables; parameters, activations and the loss need the rest.
TABLE_FRACTION = 0.25


def resolve_placement(placement: str, num_bytes: int, negatives: str, devices: int) -> str:
    """Resolves `auto` and refuses an impossible placement.

    Args:
      placement: One of `PLACEMENTS`.
      num_bytes: Size of all tables in the dtype that the model reads.
      negatives: The config's `loss.negatives`.
      devices: Number of devices of the run.

    Returns:
      `replicated`, `sharded` or `host`. `auto` takes the first one whose part of the tables fits
      in a quarter of a device's memory.

    Raises:
      InputError: The placement is unknown, or it is `host` and the negatives are not in the batch.
    """
    if placement not in PLACEMENTS:
        raise unknown("tables.placement", placement, PLACEMENTS, "this version")
    host_is_possible = negatives == "in_batch"
    if placement == "host" and not host_is_possible:
        raise InputError(
            f"tables.placement = host sends only a batch's own vectors; loss.negatives = "
            f"{negatives} needs others too: use in_batch, or tables.placement = sharded"
        )
    if placement != "auto":
        return placement
    limit = TABLE_FRACTION * device_memory()
    if num_bytes <= limit:
        return "replicated"
    return "sharded" if num_bytes <= limit * devices or not host_is_possible else "host"


def device_memory() -> int:
    """Returns the memory of the first device in bytes, or that of the machine if it is unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(stats.get("bytes_limit", machine))


def put_tables(
    tables: Mapping[str, EmbeddingTable], placement: str, mesh: Mesh, dtype: str
) -> dict[str, jax.Array]:
    """Puts the tables on the devices.

    Args:
      tables: Frozen embeddings by node type.
      placement: Placement as `resolve_placement` returns it.
      mesh: Device mesh of the run.
      dtype: Dtype of the arrays.

    Returns:
      Arrays `[count, dim]` by node type. Sharded ones are padded with zero rows to a multiple of
      the axis `table`. If the tables stay on the host, the dict is empty.
    """
    if placement == "host":
        return {}
    return {name: _put_table(table, mesh, dtype) for name, table in tables.items()}


def _put_table(table: EmbeddingTable, mesh: Mesh, dtype: str) -> jax.Array:
    parts = mesh.shape["table"]
    sharding = NamedSharding(mesh, P("table")) if parts > 1 else replicated(mesh)
    count, dim = table.stored.shape
    padded = -(-count // parts) * parts

    def read(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(padded)
        rows = table.model_inputs(slice(start, stop)).astype(jnp.dtype(dtype), copy=False)
        return np.pad(rows, ((0, stop - start - len(rows)), (0, 0)))

    return jax.make_array_from_callback((padded, dim), sharding, read)


def lookup(
    table: Float[Array, "count dim"], nodes: Int[Array, "shards *n"], mesh: Mesh
) -> Float[Array, "shards *n dim"]:
    """Reads rows of a placed table, under jit.

    If the table is sharded over the axis `table`, each device sends its ids to the others on that
    axis and gets the rows back as a sum of which only one term is not zero.

    Args:
      table: Array as `put_tables` returns it.
      nodes: Local ids; the leading axis is sharded over all devices.
      mesh: Device mesh of the run.
    """
    if mesh.shape["table"] == 1:
        return table[nodes]

    def on_device(part: Array, ids: Array) -> Array:
        all_ids = jax.lax.all_gather(ids, "table", tiled=True)
        row = all_ids - jax.lax.axis_index("table") * len(part)
        is_here = (row >= 0) & (row < len(part))
        rows = jnp.where(is_here[..., None], part[jnp.clip(row, 0, len(part) - 1)], 0)
        return jax.lax.psum_scatter(rows, "table", scatter_dimension=0, tiled=True)

    specs = (P("table"), P(AXES))
    return shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=P(AXES))(table, nodes)


def with_vectors(
    batch: Batch, groups: Sequence[Group], tables: Mapping[str, EmbeddingTable], dtype: str
) -> Batch:
    """Adds the vectors of a batch's heads and tails, read on the host.

    Args:
      batch: Ids.
      groups: Groups of every shard.
      tables: Frozen embeddings by node type.
      dtype: Dtype of the vectors.
    """

    def read(node_type: str, nodes: np.ndarray) -> np.ndarray:
        rows = tables[node_type].model_inputs(nodes.ravel()).astype(jnp.dtype(dtype), copy=False)
        return rows.reshape(*nodes.shape, -1)

    return Batch(
        batch.heads,
        batch.tails,
        tuple(read(g.triple_type.head, batch.heads[:, g.columns]) for g in groups),
        tuple(read(g.triple_type.tail, batch.tails[:, g.columns]) for g in groups),
    )
