"""Kills a restartable command many times and compares its output to an uninterrupted run."""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --kills, --jitter, --seed and --json, as `kill_and_compare` takes them."""
    parser.add_argument("--kills", type=int, default=10, help="number of kills; default: 10")
    parser.add_argument(
        "--jitter",
        type=float,
        default=0.3,
        help="largest random delay before a kill, in seconds; default: 0.3",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the delays; default: 0")
    parser.add_argument("--json", help="JSON file to write; default: none")


def kill_and_compare(
    command: Sequence[str],
    scratch: Path,
    kills: int,
    jitter: float,
    seed: int,
    json_file: str | None,
) -> int:
    """Runs a command uninterrupted and, into another folder, with kills; prints a report.

    Args:
      command: Command that ends with the flag for its output folder; it keeps its journal in the
        subfolder `.export`.
      scratch: Folder for both outputs.
      kills: Number of SIGKILLs, each after the run has finished a random number of shards.
      jitter: Largest random delay before a kill, in seconds.
      seed: Seed of the delays.
      json_file: JSON file to write, or None.

    Returns:
      0 if all files are the same, all kills hit, and no finished shard was written again; else 1.

    Raises:
      InputError: There are too few shards for so many kills.
    """
    rng = random.Random(seed)
    uninterrupted, killed = scratch / "uninterrupted", scratch / "killed"
    start = time.perf_counter()
    _run([*command, str(uninterrupted)]).wait()
    seconds_uninterrupted = time.perf_counter() - start
    total = len(_finished(uninterrupted))
    if total < 2 * kills:
        raise InputError(f"{total} shards are too few for {kills} kills; use more rows")
    rows, written = [], dict[Path, int]()
    start = time.perf_counter()
    for i in range(kills):
        before = len(_finished(killed))
        process = _run([*command, str(killed)])
        max_shards = (total - before) // (kills - i + 1)
        target = before + rng.randint(0, max(max_shards, 1))
        while len(_finished(killed)) < max(target, 1) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() * jitter)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        after = _finished(killed)
        rows.append([i + 1, code, before, len(after), _count_rewritten(written, after)])
        written = after
        print(f"kill {i + 1}: {before} -> {len(after)} of {total}", file=sys.stderr)
    code = _run([*command, str(killed)]).wait()
    after = _finished(killed)
    rows.append(["last", code, len(written), len(after), _count_rewritten(written, after)])
    seconds_killed = time.perf_counter() - start
    expected, actual = _contents(uninterrupted), _contents(killed)
    different = sorted(
        name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)
    )
    print(text_table(rows, ("run", "exit code", "shards before", "shards after", "rewritten")))
    print(f"{len(expected)} files, {len(different)} differ {' '.join(different)}")
    print(
        f"uninterrupted {seconds_uninterrupted:.1f} s; killed {kills} times {seconds_killed:.1f} s"
    )
    passed = not different and all(row[1] == -signal.SIGKILL for row in rows[:-1])
    passed = passed and rows[-1][1] == 0 and not any(row[4] for row in rows)
    if json_file:
        Path(json_file).write_text(json.dumps({"runs": rows, "identical": passed}, indent=1) + "\n")
    return 0 if passed else 1


def _run(command: list[str]) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=Path(__file__).parents[1])


def _finished(folder: Path) -> dict[Path, int]:
    """Returns the journal entries of the finished shards, and when each was written."""
    return {p: p.stat().st_mtime_ns for p in folder.glob(".export/*-of-*.json")}


def _count_rewritten(before: dict[Path, int], after: dict[Path, int]) -> int:
    return sum(after.get(path) != time_ns for path, time_ns in before.items())


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
