"""The device mesh: rows of a batch over `data`."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bridge_jax.errors import InputError


def make_mesh(shards: int, devices: int = 0) -> Mesh:
    """A mesh with one axis, `data`.

    Args:
      shards: `batch.shards` of the config; the devices must divide it.
      devices: how many to use; 0 for all.

    Raises:
      InputError: the devices do not divide the shards.
    """
    count = devices or jax.device_count()
    if count > jax.device_count():
        raise InputError(f"devices = {count}, but there are {jax.device_count()}")
    if shards % count:
        raise InputError(
            f"{count} devices do not divide batch.shards {shards}; set batch.shards to a multiple "
            "of them, or fewer devices"
        )
    chosen = jax.devices()[:count]
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def rows(mesh: Mesh) -> NamedSharding:
    """Leading axis over the devices."""
    return NamedSharding(mesh, P("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())
