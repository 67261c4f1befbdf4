"""Kill a projection again and again, and compare what it ends with to an unbroken one.

    python -m benchmarks.project_kills --workdir runs/demo --source gene/protein --target disease

Each run is the command itself in a new process, killed with SIGKILL at a random moment after it has
finished some shards of its own; the last is left alone. Every file of the two folders must be the
same byte for byte, and no finished shard may have been written twice.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kills import kill_and_compare
from benchmarks.project import generate
from bridge_jax import cli
from bridge_jax import predictor as trained


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    dim = trained.load(args.workdir).dim(args.source)
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch) / "in", args.source, args.vectors, dim, args.shard_records)
        command = [sys.executable, "-m", "bridge_jax.project", "--source", args.source]
        command += ["--workdir", str(Path(args.workdir).absolute()), "--input", f"{scratch}/in"]
        command += ["--target", args.target] if args.target else []
        return kill_and_compare(
            [*command, "--output"], Path(scratch), args.kills, args.jitter, args.seed, args.json
        )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.project_kills", __doc__)
    parser.add_argument("--workdir", required=True, help="a trained run, e.g. runs/demo")
    parser.add_argument("--source", required=True, help="node type, e.g. gene/protein")
    parser.add_argument("--target", help="bridge to this node type; default: project")
    parser.add_argument("--vectors", type=int, default=327_680, help="default: 327,680")
    parser.add_argument("--shard-records", type=int, default=8192, help="default: 8,192")
    parser.add_argument("--kills", type=int, default=10, help="default: 10")
    parser.add_argument("--jitter", type=float, default=0.3, help="seconds; default: 0.3")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--json", help="write the result here")
    return parser


if __name__ == "__main__":
    cli.run(main)
