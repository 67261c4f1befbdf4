"""Projects a library of embeddings with a trained bridge.

    python -m bridge_jax.project --workdir runs/demo --input data/demo --source gene/protein \\
        --target molecular_function --output projected

With --relation or --target the vectors are bridged and serve as queries; without them they are
projected and serve as candidates. Both have unit length, so the inner product of a query and a
candidate is their cosine. The input is a dataset directory, a file of embeddings (NumPy, Parquet,
HDF5, AnnData, PyTorch, safetensors, CSV), or a folder of such files. Each input shard makes one
output shard, OUTPUT/nodes/<type>-00000-of-0000n; OUTPUT/nodes/<type>.json is written last and
completes the job. Vectors that cannot be projected are listed with the reason in
OUTPUT/nodes/<type>.rejects.tsv.

If the job is killed or the disk is full, the same command continues after the last finished shard
and writes the same bytes. With --overwrite, another projection in OUTPUT stays as it is until the
new one is complete. Several workers share a job with --shard 0/4 … --shard 3/4. The tasks of a
SLURM job and the hosts of a TPU pod select their shards by themselves. --launcher ray distributes
the shards over a Ray cluster.
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
    """Runs the command; see the module's docstring."""
    namespace = _parser().parse_args(argv)
    reading = cli.embedding_options(namespace)
    args = vars(namespace)
    launcher, num_workers, shard = (args.pop(k) for k in ("launcher", "workers", "shard"))
    if launcher == "ray" and shard:
        raise InputError("--shard is for workers that are started one by one; leave it out for ray")
    if launcher != "ray" and num_workers is not None:
        raise InputError("--workers is for --launcher ray; start other workers with --shard")
    worker, num_local_workers = (0, 1) if launcher == "ray" else resolve_worker(shard)
    from bridge_jax.distributed.ray import cluster
    from bridge_jax.projection.job import run_on_ray, run_worker
    from bridge_jax.projection.worker import ProjectionOptions

    options = ProjectionOptions(**args, reading=reading)
    if launcher == "local":
        run_worker(options, worker, num_local_workers)
        return 0
    with cluster() as ray:
        run_worker(
            options,
            worker,
            num_local_workers,
            lambda shards, on_rows: run_on_ray(ray, options, shards, num_workers, on_rows),
        )
    return 0


def resolve_worker(
    shard: str | None, environment: Mapping[str, str] = os.environ
) -> tuple[int, int]:
    """Returns the index of this worker and the number of workers.

    Args:
      shard: `i/n` for worker i of n; default: as SLURM or the TPU pod says, or else one worker.
      environment: Environment variables of the process.

    Raises:
      InputError: `shard` does not have the form i/n with i < n.
    """
    if shard is not None:
        return parse_shard(shard)
    if int(environment.get("SLURM_NTASKS", "1")) > 1:
        # Workers need not communicate, so one task that dies does not stop the others.
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    import jax

    from bridge_jax.distributed.mesh import join_processes

    join_processes(environment=environment)
    return jax.process_index(), jax.process_count()


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.project", __doc__)
    inputs = parser.add_argument_group("inputs")
    cli.add_run_arguments(inputs, "trained run or exported bridge, e.g. runs/demo")
    inputs.add_argument(
        "--input", required=True, help="dataset directory, file or folder of embeddings"
    )
    inputs.add_argument("--source", required=True, help="node type of the embeddings, e.g. drug")
    inputs.add_argument(
        "--relation",
        help="relation to bridge along, e.g. target; may be omitted if --target implies it",
    )
    inputs.add_argument(
        "--target",
        help="node type to bridge to, e.g. gene/protein; may be omitted if --relation implies it",
    )
    embeddings = parser.add_argument_group("embeddings")
    cli.add_embedding_arguments(embeddings)
    cli.add_other_encoder_argument(embeddings)
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("--output", required=True, help="folder to write")
    outputs.add_argument(
        "--format",
        choices=FORMATS,
        default="tfrecord",
        help="format of the shards; default: tfrecord",
    )
    outputs.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="dtype of the stored vectors; default: float32",
    )
    outputs.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a projection of another input, run or format; with several workers, start "
        "the first one alone",
    )
    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--shard", metavar="I/N", help="project every N-th shard, from shard I on; default: all"
    )
    execution.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="where the workers run; default: local",
    )
    execution.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of Ray workers; default: one per GPU, or one per CPU without GPUs",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
