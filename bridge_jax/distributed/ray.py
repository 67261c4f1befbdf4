"""A projection dealt out to a Ray cluster; a worker that dies is started anew and tries again."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.projection.worker import Options, Projection

RETRIES = 3  # of a part, and restarts of a worker


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


def run_on_ray(
    ray: Any,
    options: Options,
    parts: Sequence[int],
    workers: int | None,
    tell: Callable[[int], None],
) -> None:
    """Project parts on a Ray cluster.

    Args:
      ray: the package, within `cluster`.
      options: of a projection that is open; every worker must see its paths.
      parts: what to project.
      workers: how many; by default one a GPU, or one a CPU where there is none.
      tell: is called with the rows of each part that is done.

    Raises:
      InputError: there are too few CPUs, a part cannot be projected, or workers keep dying.
    """
    resources: dict[str, float] = ray.cluster_resources()
    gpus, cpus = resources.get("GPU", 0.0), int(resources.get("CPU", 1))
    if workers is not None and not 1 <= workers <= cpus:
        raise InputError(f"--workers {workers}: from 1 to the {cpus} CPUs of the Ray cluster")
    count = min(len(parts), workers or int(gpus) or cpus)
    remote = ray.remote(
        num_cpus=cpus // count,
        num_gpus=gpus / count,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )(Worker)
    told = replace(
        options,
        workdir=str(Path(options.workdir).absolute()),
        input=str(Path(options.input).absolute()),
        output=str(Path(options.output).absolute()),
        overwrite=False,  # done by the one that opened the projection
    )
    pool = [remote.remote(told) for _ in range(count)]
    waiting = list(parts)[::-1]
    running = {worker.part.remote(waiting.pop()): worker for worker in pool}
    try:
        while running:
            (done,), _ = ray.wait(list(running))
            worker = running.pop(done)
            if waiting:
                running[worker.part.remote(waiting.pop())] = worker
            tell(ray.get(done))
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, InputError):
            raise InputError(str(e.cause)) from e
        raise
    except ray.exceptions.RayActorError as e:
        raise InputError(
            f"a Ray worker died more than {RETRIES} times ({str(e).splitlines()[0]}); the same "
            "command goes on with what is left"
        ) from e


class Worker:
    """A process that has the model loaded."""

    def __init__(self, options: Options) -> None:
        """Open the projection, once a process."""
        self._projection = Projection(options)

    def part(self, k: int) -> int:
        """Project one part; returns its rows. One that was committed before is left alone."""
        self._projection.run(self._projection.left([k]))
        return self._projection.source.size(k)
