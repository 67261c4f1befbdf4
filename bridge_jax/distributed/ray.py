"""Starts or joins a Ray cluster."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge_jax.errors import InputError


@contextmanager
def cluster() -> Iterator[Any]:
    """Joins the cluster of RAY_ADDRESS, or starts one on this machine; yields the package.

    Enter it before JAX starts its threads: Ray starts its processes by forking.

    Raises:
      InputError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as e:
        raise InputError(
            "--launcher ray needs Ray; install it with pip install 'bridge_jax[ray]'"
        ) from e
    already_joined = ray.is_initialized()
    if not already_joined:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray
    finally:
        if not already_joined:
            ray.shutdown()
