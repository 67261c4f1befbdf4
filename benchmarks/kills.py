"""Kill a restartable command again and again, and compare what it ends with to an unbroken run."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import InputError


def kill_and_compare(
    command: Sequence[str], scratch: Path, kills: int, jitter: float, seed: int, report: str | None
) -> int:
    """Run a command unbroken and, in another folder, killed; print and write what came of it.

    Args:
      command: ends with the flag that an output folder follows; its journal is in `.export`.
      scratch: where both folders go.
      kills: SIGKILLs, each after the run has finished a random number of shards of its own.
      jitter: further seconds, at most, before a kill.
      seed: of the moments.
      report: a JSON file to write, or None.

    Returns:
      0 where every file is the same, every kill struck, and no finished shard was written again.

    Raises:
      InputError: there are too few shards for so many kills.
    """
    chance = random.Random(seed)
    whole, killed = scratch / "whole", scratch / "killed"
    start = time.perf_counter()
    _run([*command, str(whole)]).wait()
    unbroken = time.perf_counter() - start
    total = len(_finished(whole))
    if total < 2 * kills:
        raise InputError(f"{total} shards are too few for {kills} kills; use more rows")
    rows, written = [], dict[Path, int]()
    start = time.perf_counter()
    for i in range(kills):
        before = len(_finished(killed))
        process = _run([*command, str(killed)])
        most = (total - before) // (kills - i + 1)
        wanted = before + chance.randint(0, max(most, 1))
        while len(_finished(killed)) < max(wanted, 1) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.random() * jitter)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        after = _finished(killed)
        rows.append([i + 1, code, before, len(after), _rewritten(written, after)])
        written = after
        print(f"kill {i + 1}: {before} -> {len(after)} of {total}", file=sys.stderr)
    code = _run([*command, str(killed)]).wait()
    after = _finished(killed)
    rows.append(["last", code, len(written), len(after), _rewritten(written, after)])
    broken = time.perf_counter() - start
    one, other = _contents(whole), _contents(killed)
    differing = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
    print(cli.table(rows, ("run", "exit code", "shards before", "shards after", "rewritten")))
    print(f"{len(one)} files, {len(differing)} differ {' '.join(differing)}")
    print(f"unbroken {unbroken:.1f} s; killed {kills} times {broken:.1f} s")
    good = not differing and all(r[1] == -signal.SIGKILL for r in rows[:-1])
    good = good and rows[-1][1] == 0 and not any(r[4] for r in rows)
    if report:
        Path(report).write_text(json.dumps({"runs": rows, "identical": good}, indent=1) + "\n")
    return 0 if good else 1


def _run(command: list[str]) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=Path(__file__).parents[1])


def _finished(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.glob(".export/*-of-*.json")}


def _rewritten(before: dict[Path, int], after: dict[Path, int]) -> int:
    return sum(after.get(path) != made for path, made in before.items())


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
