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
from collections.abc import Mapping, Sequence

from bridge_jax import cli
from bridge_jax.data.shard_journal import parse_shard
from bridge_jax.data.tfrecord import DTYPES
from bridge_jax.errors import InputError
from bridge_jax.projection.outputs import FORMATS

LAUNCHERS = ("local", "ray")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = vars(_parser().parse_args(argv))
    launcher, workers, shard = (args.pop(k) for k in ("launcher", "workers", "shard"))
    if launcher == "ray" and shard:
        raise InputError("--shard is for workers that are started one by one; ray deals shards out")
    if launcher != "ray" and workers is not None:
        raise InputError("--workers is for --launcher ray; other workers are started with --shard")
    worker, of = (0, 1) if launcher == "ray" else share(shard)
    from bridge_jax.distributed.ray import cluster
    from bridge_jax.projection.job import run_on_ray, work
    from bridge_jax.projection.worker import Options, Projection

    options = Options(**args)
    if launcher == "local":
        work(options, worker, of, Projection.run)
        return 0
    with cluster() as ray:
        work(options, 0, 1, lambda _, parts, tell: run_on_ray(ray, options, parts, workers, tell))
    return 0


def share(shard: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which worker this is, of how many.

    Args:
      shard: `i/n` as given, or None to ask SLURM or the TPU pod.
      environment: of the process.

    Raises:
      InputError: not of the form i/n with i < n.
    """
    if shard is not None:
        return parse_shard(shard)
    if int(environment.get("SLURM_NTASKS", "1")) > 1:
        # Shards need no word between the tasks, so one that dies takes none along.
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    import jax

    from bridge_jax.distributed.mesh import join_processes

    join_processes(environment=environment)
    return jax.process_index(), jax.process_count()


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.project", __doc__)
    what = parser.add_argument_group("what to project")
    cli.add_run_arguments(what, "trained or exported run, e.g. runs/demo")
    what.add_argument("--input", required=True, help="a dataset directory, a file, or a folder")
    what.add_argument("--source", required=True, help="node type of the vectors, e.g. drug")
    what.add_argument("--relation", help="bridge along this relation, e.g. target")
    what.add_argument("--target", help="bridge to this node type, e.g. gene/protein")
    where = parser.add_argument_group("what to write")
    where.add_argument("--output", required=True, help="the folder to write")
    where.add_argument(
        "--format", choices=FORMATS, default="tfrecord", help="of the shards; default: tfrecord"
    )
    where.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the vectors; default: float32"
    )
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
    who.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="of the workers; default: local"
    )
    who.add_argument(
        "--workers", type=int, metavar="N", help="on Ray; default: one a GPU, or one a CPU"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
