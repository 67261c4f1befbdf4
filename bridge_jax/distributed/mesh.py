"""Processes and devices: who takes part, and how arrays lie on them."""

import os
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bridge_jax.errors import InputError

# A process that has died is noticed after this long; the default keeps the others waiting 100 s.
HEARTBEAT_SECONDS = 10


def join_processes(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Join the other processes of a run, before any device is used.

    With flags, those count. Without, the environment decides: a SLURM job of several tasks or a
    TPU pod is joined, anything else is a run of one process.

    Args:
      coordinator: host:port of process 0.
      processes: how many there are.
      process: which one this is.
      environment: to find SLURM or a TPU pod in.

    Raises:
      InputError: some of the flags are missing, or do not fit together.
    """
    flags = (coordinator, processes, process)
    if any(f is not None for f in flags):
        if coordinator is None or processes is None or process is None:
            raise InputError("--coordinator, --num-processes and --process-id go together")
        if not 0 <= process < processes:
            raise InputError(f"--process-id {process} is not below --num-processes {processes}")
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    elif int(environment.get("SLURM_NTASKS", "1")) > 1 or _on_tpu_pod(environment):
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def _on_tpu_pod(environment: Mapping[str, str]) -> bool:
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")


# The rows of a batch are spread over both; the second also cuts the tables, when they are sharded.
AXES = ("data", "table")


def device_count(devices: int = 0) -> int:
    """How many devices a run uses.

    Args:
      devices: the config's wish; 0 for all.

    Raises:
      InputError: there are fewer.
    """
    if devices > jax.device_count():
        raise InputError(f"devices = {devices}, but there are {jax.device_count()}")
    return devices or jax.device_count()


def make_mesh(shards: int, devices: int = 0, table: int = 1) -> Mesh:
    """A mesh of the axes `AXES`.

    Args:
      shards: `batch.shards` of the config; the devices must divide it.
      devices: how many to use; 0 for all.
      table: devices along the axis `table`.

    Raises:
      InputError: there are fewer devices, or the numbers do not divide one another.
    """
    count = device_count(devices)
    if shards % count:
        raise InputError(
            f"{count} devices do not divide batch.shards {shards}; set batch.shards to a multiple "
            "of them, or fewer devices"
        )
    if count % table:
        raise InputError(f"tables.devices {table} does not divide the {count} devices of the run")
    chosen = jax.devices()[:count]
    shape, types = (count // table, table), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(shape, AXES, axis_types=types, devices=chosen)


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over the devices."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())


def process_slice(shards: int) -> slice:
    """The shards of a batch that this process computes: those of its devices."""
    each = shards // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)


def shard_batch(mesh: Mesh, local: Any) -> Any:
    """This process's part of a batch as a global array over the devices."""
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(row_sharding(mesh), a), local
    )


def to_local(tree: Any) -> Any:
    """Replicated arrays as arrays of this process's first device."""
    return jax.tree.map(lambda a: a.addressable_data(0), tree)
