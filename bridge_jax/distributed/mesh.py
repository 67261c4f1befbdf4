"""Multi-process setup, device mesh and array sharding."""

import errno
import os
import socket
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bridge_jax.errors import InputError

# Seconds until a dead process is noticed; with the default the others wait 100 s.
HEARTBEAT_SECONDS = 10


def join_processes(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Joins the other processes of a run; to be called before any device is used.

    Flags take precedence. Without flags the environment decides: the tasks of a SLURM job and the
    hosts of a TPU pod are joined, anything else is a run of one process.

    Args:
      coordinator: Address host:port of process 0.
      processes: Number of processes.
      process: Index of this process.
      environment: Environment variables, which tell of SLURM or a TPU pod.

    Raises:
      InputError: Some of the flags are missing, they do not fit together, or the coordinator's
        port is taken.
    """
    process_index(coordinator, processes, process, environment)
    if coordinator is not None:
        _check_port(coordinator, is_first=process == 0)
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    elif int(environment.get("SLURM_NTASKS", "1")) > 1 or _on_tpu_pod(environment):
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def process_index(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Returns the index of this process in its run, before it joins the others.

    Args:
      coordinator: As in `join_processes`, as are the others.
      processes: Number of processes.
      process: Index of this process.
      environment: Environment variables.

    Raises:
      InputError: Some of the flags are missing, or they do not fit together.
    """
    flags = (coordinator, processes, process)
    if all(f is None for f in flags):
        if int(environment.get("SLURM_NTASKS", "1")) > 1:
            return int(environment.get("SLURM_PROCID", "0"))
        return int(environment.get("TPU_WORKER_ID", "0")) if _on_tpu_pod(environment) else 0
    if coordinator is None or processes is None or process is None:
        raise InputError("--coordinator, --num-processes and --process-id go together")
    if not 0 <= process < processes:
        raise InputError(f"--process-id {process} is not below --num-processes {processes}")
    return process


def _check_port(coordinator: str, is_first: bool) -> None:
    """Raises an `InputError` where the runtime would end the process without a message."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator {coordinator!r}: must be HOST:PORT, e.g. 10.0.0.1:9876")
    if not is_first:
        return
    families = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))
    for family, address in families if socket.has_dualstack_ipv6() else families[:1]:
        with socket.socket(family) as probe:
            # Connections of an earlier run that linger in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, int(port)))
            except OSError as e:
                if e.errno in (errno.EADDRINUSE, errno.EACCES):
                    reason = "is taken" if e.errno == errno.EADDRINUSE else "is not permitted"
                    raise InputError(
                        f"--coordinator {coordinator}: port {port} of this machine {reason}; "
                        "choose another one for all processes"
                    ) from e


def _on_tpu_pod(environment: Mapping[str, str]) -> bool:
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")


# The rows of a batch are sharded over both axes; sharded tables over the second.
AXES = ("data", "table")


def device_count(devices: int = 0) -> int:
    """Returns the number of devices that a run uses.

    Args:
      devices: Number in the config; 0 means all.

    Raises:
      InputError: There are fewer devices.
    """
    if devices > jax.device_count():
        raise InputError(f"devices = {devices}, but there are {jax.device_count()}")
    return devices or jax.device_count()


def make_mesh(shards: int, devices: int = 0, table: int = 1) -> Mesh:
    """Builds a device mesh with the axes `AXES`.

    Args:
      shards: `batch.shards` of the config, a multiple of the number of devices.
      devices: Number of devices to use; 0 means all.
      table: Number of devices along the axis `table`.

    Raises:
      InputError: There are fewer devices, or the numbers do not divide one another.
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
    """Sharding of the leading axis over all devices."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding that copies an array to every device."""
    return NamedSharding(mesh, P())


def process_slice(shards: int) -> slice:
    """Returns the shards of a batch that this process computes: those of its own devices."""
    per_process = shards // jax.process_count()
    start = jax.process_index() * per_process
    return slice(start, start + per_process)


def shard_batch(mesh: Mesh, local: Any) -> Any:
    """Combines the parts of a batch that the processes hold into global, sharded arrays."""
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(row_sharding(mesh), a), local
    )


def to_local(tree: Any) -> Any:
    """Converts replicated arrays to arrays of this process's first device."""
    return jax.tree.map(lambda a: a.addressable_data(0), tree)
