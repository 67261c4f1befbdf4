"""Kill an export again and again, and compare what it ends with to an unbroken one.

    python benchmarks/export_kills.py --encoder minilm --type disease --input disease.csv.gz \\
        --rows 400 --kills 10 -- --max-length 48 --shard-records 16

Each run is the command itself in a new process, killed with SIGKILL at a random moment after it
has made some progress of its own; the last is left alone. Every file of the two folders must be
the same byte for byte, and no finished shard may have been written twice.
"""

import argparse
import gzip
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridge_jax import cli
from bridge_jax.errors import InputError
from tools.formats.edges import open_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "input.csv.gz"
        with open_text(Path(args.input)) as lines, gzip.open(source, "wb") as short:
            short.writelines(line for _, line in zip(range(args.rows + 1), lines, strict=False))
        command = [sys.executable, "-m", "tools.export_embeddings", "--encoder", args.encoder]
        command += ["--type", args.type, "--input", str(source), *args.options, "--output"]
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        start = time.perf_counter()
        _run([*command, str(whole)]).wait()
        unbroken = time.perf_counter() - start
        total = len(_finished(whole))
        if total < 2 * args.kills:
            raise InputError(f"{total} shards are too few for {args.kills} kills; use more rows")
        rows, written = [], {}
        start = time.perf_counter()
        for i in range(args.kills):
            before = len(_finished(killed))
            process = _run([*command, str(killed)])
            most = (total - before) // (args.kills - i + 1)
            wanted = before + chance.randint(0, max(most, 1))
            while len(_finished(killed)) < max(wanted, 1) and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * args.jitter)
            process.send_signal(signal.SIGKILL)
            code = process.wait()
            after = _finished(killed)
            rewritten = sum(after.get(p) != t for p, t in written.items())
            written = after
            rows.append([i + 1, code, before, len(after), rewritten])
            print(f"kill {i + 1}: {before} -> {len(after)} of {total}", file=sys.stderr)
        code = _run([*command, str(killed)]).wait()
        after = _finished(killed)
        rows.append(
            [
                "last",
                code,
                len(written),
                len(after),
                sum(after.get(p) != t for p, t in written.items()),
            ]
        )
        broken = time.perf_counter() - start
        one, other = _contents(whole), _contents(killed)
    differing = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
    print(cli.table(rows, ("run", "exit code", "shards before", "shards after", "rewritten")))
    print(f"{len(one)} files, {len(differing)} differ {' '.join(differing)}")
    print(f"unbroken {unbroken:.1f} s; killed {args.kills} times {broken:.1f} s")
    good = not differing and all(r[1] == -signal.SIGKILL for r in rows[:-1])
    good = good and rows[-1][1] == 0 and not any(r[4] for r in rows)
    if args.json:
        Path(args.json).write_text(json.dumps({"runs": rows, "identical": good}, indent=1) + "\n")
    return 0 if good else 1


def _run(command: list[str]) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=Path(__file__).parents[1])


def _finished(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.glob(".export/*-of-*.json")}


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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
