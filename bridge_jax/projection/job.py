"""One worker's share of a projection: its parts, how fast they go, and what became of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.progress import RateProgress
from bridge_jax.projection.worker import Options, Projection


def work(
    options: Options,
    worker: int,
    workers: int,
    run: Callable[[Projection, Sequence[int], Callable[[int], None]], None],
) -> None:
    """Do one worker's share, and print what became of it.

    Args:
      options: of the projection.
      worker: which one, from 0.
      workers: of how many; it takes every so many-th part.
      run: projects parts and tells of their rows.

    Raises:
      InputError: as `Projection`.
    """
    projection = Projection(options)
    mine = range(worker, projection.journal.total, workers)
    todo = projection.left(mine, check=True)
    if workers == 1:
        projection.journal.sweep()
    if todo:
        progress = RateProgress(sum(map(projection.source.size, todo)), "vector")
        run(projection, todo, progress.advance)
        progress.close()
    print(_report(projection, len(todo)))


def _report(projection: Projection, written: int) -> str:
    table = projection.complete()
    total = projection.journal.total
    if table is None:
        left = len(projection.left(range(total)))
        return f"this worker is done; {left} of {total} shards are left"
    lines = [
        f"{table.pooling}: {table.count:,} vectors of {table.dim} {table.dtype} in "
        f"{total:,} shard{'s' if total > 1 else ''} ({written:,} written now)"
    ]
    rejected = projection.rejected()
    lines += [f"{n:,} rejected: {reason}" for reason, n in rejected.most_common()]
    if rejected:
        lines.append(f"each is listed in {projection.journal.sidecar.with_suffix('.rejects.tsv')}")
    return "\n".join([*lines, str(projection.journal.sidecar)])


RETRIES = 3  # of a part, and restarts of a worker


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
