"""Kills an export of embeddings many times and compares its output to an uninterrupted one.

    python -m benchmarks.export_kills --encoder minilm --type disease --input disease.csv.gz \\
        --rows 400 --kills 10 -- --max-length 48 --shard-records 16

Each run is the command in a new process. It is killed with SIGKILL at a random moment after it has
finished some shards; the last run is not killed. All files of the two folders must have the same
bytes, and no finished shard may be written again.
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kills import add_arguments, kill_and_compare
from bridge_jax import cli
from tools.formats.files import open_decompressed


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "input.csv.gz"
        with open_decompressed(Path(args.input)) as lines, gzip.open(source, "wb") as handle:
            handle.writelines(line for _, line in zip(range(args.rows + 1), lines, strict=False))
        command = [sys.executable, "-m", "tools.export_embeddings", "--encoder", args.encoder]
        command += ["--type", args.type, "--input", str(source), *args.options, "--output"]
        return kill_and_compare(
            command, Path(scratch), args.kills, args.jitter, args.seed, args.json
        )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.export_kills", __doc__)
    parser.add_argument("--encoder", required=True, help="encoder, as for tools.export_embeddings")
    parser.add_argument("--type", required=True, help="node type")
    parser.add_argument("--input", required=True, help="CSV file with a header, plain or gzipped")
    parser.add_argument("--rows", type=int, default=400, help="rows to export; default: 400")
    add_arguments(parser)
    parser.add_argument(
        "options", nargs="*", help="further options of tools.export_embeddings, after --"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
