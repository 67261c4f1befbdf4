"""Kill an export again and again, and compare what it ends with to an unbroken one.

    python benchmarks/export_kills.py --encoder minilm --type disease --input disease.csv.gz \\
        --rows 400 --kills 10 -- --max-length 48 --shard-records 16

Each run is the command itself in a new process, killed with SIGKILL at a random moment after it
has made some progress of its own; the last is left alone. Every file of the two folders must be
the same byte for byte, and no finished shard may have been written twice.
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.kills import kill_and_compare
from bridge_jax import cli
from tools.formats.files import open_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "input.csv.gz"
        with open_text(Path(args.input)) as lines, gzip.open(source, "wb") as short:
            short.writelines(line for _, line in zip(range(args.rows + 1), lines, strict=False))
        command = [sys.executable, "-m", "tools.export_embeddings", "--encoder", args.encoder]
        command += ["--type", args.type, "--input", str(source), *args.options, "--output"]
        return kill_and_compare(
            command, Path(scratch), args.kills, args.jitter, args.seed, args.json
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="as in tools.export_embeddings")
    parser.add_argument("--type", required=True, help="the node type")
    parser.add_argument("--input", required=True, help="a CSV with a header, plain or gzipped")
    parser.add_argument("--rows", type=int, default=400, help="lines to use; default: 400")
    parser.add_argument("--kills", type=int, default=10, help="default: 10")
    parser.add_argument("--jitter", type=float, default=0.3, help="seconds; default: 0.3")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("options", nargs="*", help="further options of the command, after --")
    return parser


if __name__ == "__main__":
    cli.run(main)
