"""One worker's share of a projection: its parts, how fast they go, and what became of them."""

import time
from collections.abc import Callable, Sequence

from bridge_jax.experiment.metric_writer import Progress
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
        tell = Rate(sum(map(projection.source.size, todo)))
        run(projection, todo, tell)
        tell.progress.close()
    print(_report(projection, len(todo)))


class Rate:
    """Tells how many vectors are done, how fast, and when the rest will be."""

    def __init__(self, total: int) -> None:
        """Start the clock.

        Args:
          total: vectors to come.
        """
        self.progress = Progress(total, unit="vector")
        self._total, self._done = total, 0
        self._began = self._shown = time.monotonic()

    def __call__(self, rows: int) -> None:
        """So many more are done."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown < 0.2 and self._done < self._total:
            return
        self._shown, rate = now, self._done / max(now - self._began, 1e-9)
        self.progress.update(self._done, **{"vectors/s": f"{rate:,.0f}"})


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
