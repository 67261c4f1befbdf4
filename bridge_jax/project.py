"""Project a library of embeddings with a trained bridge.

    python -m bridge_jax.project --workdir runs/demo --input data/demo --source gene/protein \\
        --target molecular_function --output projected

With --relation or --target the vectors are bridged, as queries; without, they are projected, as
candidates. Both are of unit length, so that the inner product of a query and a candidate is their
cosine. The input is a dataset directory, a .npy (with .ids.txt), .npz or .parquet file, or a folder
of such files; each input shard makes one output shard, OUTPUT/nodes/<type>-00000-of-0000n, and
OUTPUT/nodes/<type>.json completes the job. What cannot be projected is listed with its reason in
OUTPUT/nodes/<type>.rejects.tsv.

Killed at any moment, the same command goes on after the last finished shard, and the bytes are the
same. Several workers share a job with --shard 0/4 … --shard 3/4; the tasks of a SLURM job and the
hosts of a TPU pod take their shards by themselves; --launcher ray deals them out to a Ray cluster.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence

import jax

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.mesh import join_processes
from bridge_jax.metrics import Progress
from bridge_jax.outputs import FORMATS
from bridge_jax.projection import Options, Projection
from bridge_jax.records import DTYPES

LAUNCHERS = ("local", "ray")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = vars(_parser().parse_args(argv))
    launcher, workers, shard = (args.pop(k) for k in ("launcher", "workers", "shard"))
    options = Options(**args)
    if launcher == "ray" and shard:
        raise InputError("--shard is for workers that are started one by one; ray deals shards out")
    if launcher != "ray" and workers is not None:
        raise InputError("--workers is for --launcher ray; other workers are started with --shard")
    if launcher == "ray":
        from bridge_jax.ray_workers import cluster, run_on_ray

        with cluster() as ray:
            return _job(
                options, 0, 1, lambda _, parts, tell: run_on_ray(ray, options, parts, workers, tell)
            )
    return _job(options, *share(shard), Projection.run)


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


def share(shard: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which worker this is, of how many.

    Args:
      shard: `i/n` as given, or None to ask SLURM or the TPU pod.
      environment: of the process.

    Raises:
      InputError: not of the form i/n with i < n.
    """
    if shard is not None:
        i, _, n = shard.partition("/")
        if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
            raise InputError(f"--shard {shard}: write it as i/n with i < n, as in 0/4")
        return int(i), int(n)
    if int(environment.get("SLURM_NTASKS", "1")) > 1:
        # Shards need no word between the tasks, so one that dies takes none along.
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    join_processes(environment=environment)
    return jax.process_index(), jax.process_count()


def _job(
    options: Options,
    worker: int,
    workers: int,
    run: Callable[[Projection, Sequence[int], Callable[[int], None]], None],
) -> int:
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
    return 0


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


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.project", __doc__)
    what = parser.add_argument_group("what to project")
    what.add_argument("--workdir", required=True, help="a trained run, or an exported one")
    what.add_argument("--input", required=True, help="a dataset directory, a file, or a folder")
    what.add_argument("--source", required=True, help="node type of the vectors, e.g. drug")
    what.add_argument("--relation", help="bridge along this relation, e.g. target")
    what.add_argument("--target", help="bridge to this node type, e.g. gene/protein")
    what.add_argument("--step", type=int, help="a checkpoint; default: the best by validation")
    what.add_argument("--dataset", help="another place of the run's dataset")
    where = parser.add_argument_group("what to write")
    where.add_argument("--output", required=True, help="the folder to write")
    where.add_argument("--format", choices=FORMATS, default="tfrecord", help="default: tfrecord")
    where.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    where.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a projection of another input, run or form; with several workers, start the "
        "first one alone",
    )
    who = parser.add_argument_group("who does it")
    who.add_argument(
        "--shard", metavar="I/N", help="be worker I of N and take every N-th shard; default: all"
    )
    who.add_argument("--launcher", choices=LAUNCHERS, default="local", help="default: local")
    who.add_argument(
        "--workers", type=int, metavar="N", help="on Ray; default: one a GPU, or one a CPU"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
