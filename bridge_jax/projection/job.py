"""Runs one worker's share of a projection, in this process or on a Ray cluster."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.progress import RateProgress
from bridge_jax.projection.worker import Projection, ProjectionOptions

RETRIES = 3  # of a shard on Ray, and restarts of a Ray worker


def run_worker(
    options: ProjectionOptions,
    worker: int,
    num_workers: int,
    on_ray: Callable[[Sequence[int], Callable[[int], None]], None] | None = None,
) -> None:
    """Projects one worker's share of the shards and prints a report.

    Args:
      options: Options of the projection.
      worker: Index of this worker, from 0.
      num_workers: Number of workers; worker i projects shards i, i + num_workers, …
      on_ray: Projects some shards on a Ray cluster, and calls its last argument with the number of
        rows that are done; default: they are projected in this process.

    Raises:
      InputError: See `Projection`.
    """
    with Projection(options, worker, num_workers if on_ray is None else 0) as projection:
        assigned = range(worker, projection.journal.num_shards, num_workers)
        pending = projection.pending(assigned, check=True)
        if num_workers == 1:
            projection.journal.remove_temporary_files()
        if pending:
            progress = RateProgress(sum(map(projection.source.slice_rows, pending)), "vector")
            (on_ray or projection.run)(pending, progress.advance)
            progress.close()
        print(_report(projection, len(pending)))


def _report(projection: Projection, num_written: int) -> str:
    table = projection.write_sidecar()
    total = projection.journal.num_shards
    if table is None:
        num_pending = len(projection.pending(range(total)))
        return f"this worker is done; {num_pending} of {total} shards are left"
    lines = [
        f"{table.pooling}: {table.count:,} vectors of {table.dim} {table.dtype} in "
        f"{total:,} shard{'s' if total > 1 else ''} ({num_written:,} written now)"
    ]
    rejects = projection.count_rejects()
    lines += [f"{count:,} rejected: {reason}" for reason, count in rejects.most_common()]
    if rejects:
        lines.append(f"each is listed in {projection.journal.sidecar.with_suffix('.rejects.tsv')}")
    return "\n".join([*lines, str(projection.journal.sidecar)])


def run_on_ray(
    ray: Any,
    options: ProjectionOptions,
    shards: Sequence[int],
    num_workers: int | None,
    on_rows: Callable[[int], None],
) -> None:
    """Projects shards on a Ray cluster; a worker that dies is restarted and its shard retried.

    Args:
      ray: The package, inside `bridge_jax.distributed.ray.cluster`.
      options: Options of a projection that is open already; all workers must see its paths.
      shards: Indices of the shards to project.
      num_workers: Number of workers; default: one per GPU, or one per CPU without GPUs.
      on_rows: Called with the number of rows of each shard that is done.

    Raises:
      InputError: There are fewer CPUs than workers, a shard cannot be projected, or a worker died
        too often.
    """
    resources: dict[str, float] = ray.cluster_resources()
    gpus, cpus = resources.get("GPU", 0.0), int(resources.get("CPU", 1))
    if num_workers is not None and not 1 <= num_workers <= cpus:
        raise InputError(
            f"--workers {num_workers}: must be from 1 to {cpus}, the CPUs of the Ray cluster"
        )
    count = min(len(shards), num_workers or int(gpus) or cpus)
    actor = ray.remote(
        num_cpus=cpus // count,
        num_gpus=gpus / count,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )(Worker)
    worker_options = replace(
        options,
        workdir=str(Path(options.workdir).absolute()),
        input=str(Path(options.input).absolute()),
        output=str(Path(options.output).absolute()),
        overwrite=False,  # the process that opened the projection did it
    )
    workers = [actor.remote(worker_options) for _ in range(count)]
    waiting = list(shards)[::-1]
    running = {worker.project.remote(waiting.pop()): worker for worker in workers}
    try:
        while running:
            (task,), _ = ray.wait(list(running))
            worker = running.pop(task)
            if waiting:
                running[worker.project.remote(waiting.pop())] = worker
            on_rows(ray.get(task))
        ray.get([worker.close.remote() for worker in workers])
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, InputError):
            raise InputError(str(e.cause)) from e
        raise
    except ray.exceptions.RayActorError as e:
        raise InputError(
            f"a Ray worker died more than {RETRIES} times ({str(e).splitlines()[0]}); run the same "
            "command again to continue with the shards that are left"
        ) from e


class Worker:
    """Ray actor that has a projection open."""

    def __init__(self, options: ProjectionOptions) -> None:
        """Opens the projection."""
        self._projection = Projection(options, None, 0)

    def project(self, shard: int) -> int:
        """Projects a shard unless it is finished; returns its number of rows."""
        self._projection.run(self._projection.pending([shard]))
        return self._projection.source.slice_rows(shard)

    def close(self) -> None:
        """Releases the lock of the output folder."""
        self._projection.close()
