"""Where the frozen tables lie while training: on every device, spread over them, or on the host.

The same batch whichever it is (`tests/distributed/test_placement.py`); what differs is what must fit where.

    replicated   every device holds every table
    sharded      each device of the mesh's axis `table` holds a part of every table
    host         the tables stay where the dataset is, memory-mapped; the vectors of a batch travel
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
from bridge_jax.data.embedding_tables import Table
from bridge_jax.distributed.mesh import AXES, replicated
from bridge_jax.errors import InputError, unknown

PLACEMENTS = ("auto", "replicated", "sharded", "host")
# Of a device's memory; the rest is for parameters, activations and the loss.
SHARE = 0.25


def resolve_placement(placement: str, needed: int, negatives: str, devices: int) -> str:
    """Settle `auto`, and refuse what cannot be.

    Args:
      placement: one of `PLACEMENTS`.
      needed: bytes of all tables in the dtype that the model reads.
      negatives: the config's `loss.negatives`.
      devices: of the run.

    Returns:
      `replicated`, `sharded` or `host`. `auto` takes the first whose part of the tables fits in a
      quarter of a device's memory.

    Raises:
      InputError: an unknown placement, or `host` for negatives that are no tails of the batch.
    """
    if placement not in PLACEMENTS:
        raise unknown("tables.placement", placement, PLACEMENTS, "this version")
    on_host = negatives == "in_batch"
    if placement == "host" and not on_host:
        raise InputError(
            f"tables.placement = host sends a batch's own vectors alone; loss.negatives = "
            f"{negatives} needs others too: use in_batch, or tables.placement = sharded"
        )
    if placement != "auto":
        return placement
    room = SHARE * device_memory()
    if needed <= room:
        return "replicated"
    return "sharded" if needed <= room * devices or not on_host else "host"


def device_memory() -> int:
    """Bytes of the first device; the machine's own memory when the device does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(stats.get("bytes_limit", machine))


def put_tables(
    tables: Mapping[str, Table], placement: str, mesh: Mesh, dtype: str
) -> dict[str, jax.Array]:
    """Put the tables where training reads them.

    Args:
      tables: of the dataset.
      placement: as `choose` returns it.
      mesh: of the run.
      dtype: of the arrays.

    Returns:
      `{type: [count, dim]}`; when sharded, with zero rows up to a multiple of the axis `table`;
      nothing when they stay on the host.
    """
    if placement == "host":
        return {}
    return {name: _place(table, mesh, dtype) for name, table in tables.items()}


def _place(table: Table, mesh: Mesh, dtype: str) -> jax.Array:
    parts = mesh.shape["table"]
    sharding = NamedSharding(mesh, P("table")) if parts > 1 else replicated(mesh)
    count, dim = table.stored.shape
    padded = -(-count // parts) * parts

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(padded)
        found = table.rows(slice(start, stop)).astype(jnp.dtype(dtype), copy=False)
        return np.pad(found, ((0, stop - start - len(found)), (0, 0)))

    return jax.make_array_from_callback((padded, dim), sharding, part)


def lookup(
    table: Float[Array, "count dim"], nodes: Int[Array, "shards *n"], mesh: Mesh
) -> Float[Array, "shards *n dim"]:
    """Rows of a placed table, under jit.

    From a table that is spread over the axis `table`, each device asks all others on that axis for
    its rows and gets them back as a sum in which one term is not zero.

    Args:
      table: of `place`.
      nodes: local ids; the leading axis is spread over the devices.
      mesh: of the run.
    """
    if mesh.shape["table"] == 1:
        return table[nodes]

    def local(part: Array, ids: Array) -> Array:
        asked = jax.lax.all_gather(ids, "table", tiled=True)
        put_tables = asked - jax.lax.axis_index("table") * len(part)
        mine = (put_tables >= 0) & (put_tables < len(part))
        found = jnp.where(mine[..., None], part[jnp.clip(put_tables, 0, len(part) - 1)], 0)
        return jax.lax.psum_scatter(found, "table", scatter_dimension=0, tiled=True)

    specs = (P("table"), P(AXES))
    return shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(AXES))(table, nodes)


def with_vectors(
    batch: Batch, groups: Sequence[Group], tables: Mapping[str, Table], dtype: str
) -> Batch:
    """A batch that carries the vectors of its heads and tails, gathered on the host.

    Args:
      batch: ids.
      groups: of every shard.
      tables: of the dataset.
      dtype: of the vectors.
    """

    def gathered(node_type: str, nodes: np.ndarray) -> np.ndarray:
        found = tables[node_type].rows(nodes.ravel()).astype(jnp.dtype(dtype), copy=False)
        return found.reshape(*nodes.shape, -1)

    return Batch(
        batch.heads,
        batch.tails,
        tuple(gathered(g.triple_type.head, batch.heads[:, g.columns]) for g in groups),
        tuple(gathered(g.triple_type.tail, batch.tails[:, g.columns]) for g in groups),
    )
