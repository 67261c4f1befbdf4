"""A projection dealt out to a Ray cluster; a worker that dies is started anew and tries again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge_jax.errors import InputError


@contextmanager
def cluster() -> Iterator[Any]:
    """Join the cluster of RAY_ADDRESS, or start one of this machine; yields the package.

    To be entered before JAX has threads: Ray starts its processes by forking.

    Raises:
      InputError: Ray is missing.
    """
    try:
        import ray
    except ImportError as e:
        raise InputError(
            "--launcher ray needs Ray; install it with pip install 'bridge_jax[ray]'"
        ) from e
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
