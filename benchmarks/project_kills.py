"""Kills a projection many times and compares its output to an uninterrupted one.

    python -m benchmarks.project_kills --workdir runs/demo --source gene/protein --target disease

Each run is the command in a new process. It is killed with SIGKILL at a random moment after it has
finished some shards; the last run is not killed. All files of the two folders must have the same
bytes, and no finished shard may be written again.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kills import add_arguments, kill_and_compare
from benchmarks.project import write_library
from bridge_jax import cli, predictor


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    dim = predictor.load(args.workdir).dim(args.source)
    with tempfile.TemporaryDirectory() as scratch:
        write_library(Path(scratch) / "in", args.source, args.vectors, dim, args.shard_records)
        command = [sys.executable, "-m", "bridge_jax.project", "--source", args.source]
        command += ["--workdir", str(Path(args.workdir).absolute()), "--input", f"{scratch}/in"]
        command += ["--target", args.target] if args.target else []
        return kill_and_compare(
            [*command, "--output"], Path(scratch), args.kills, args.jitter, args.seed, args.json
        )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.project_kills", __doc__)
    parser.add_argument("--workdir", required=True, help="trained run, e.g. runs/demo")
    parser.add_argument("--source", required=True, help="node type, e.g. gene/protein")
    parser.add_argument("--target", help="node type to bridge to; default: none, plain projections")
    parser.add_argument(
        "--vectors", type=int, default=327_680, help="number of vectors; default: 327,680"
    )
    parser.add_argument(
        "--shard-records", type=int, default=8192, help="vectors per shard; default: 8,192"
    )
    add_arguments(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
