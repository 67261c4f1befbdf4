"""Runs the cases in a process with limits, so that a crash or an endless loop costs one case."""

import multiprocessing
import resource
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.case import Factory, Result, Tally, Target, check, run_case

MEMORY_BYTES = 4 << 30  # beyond that of the start
TIME_LIMIT_S = 60.0  # of one case
START_LIMIT_S = 120.0  # to import everything and to write the valid file
Job = tuple[str, int, int]  # name of the target, first case and the one after the last


def run_jobs(
    factories: Mapping[str, Factory], jobs: Sequence[Job], seed: int, limit_s: float = TIME_LIMIT_S
) -> dict[str, Tally]:
    """Runs the cases of some targets.

    A worker that dies, or that takes too long for a case, is replaced; the case is wrong, and the
    next worker goes on with the case after it.

    Args:
      factories: Makes each target in a folder.
      jobs: What to run.
      seed: Random seed.
      limit_s: Seconds that one case may take.
    """
    tallies = {name: Tally() for name, *_ in jobs}
    remaining = [job for job in jobs if job[1] < job[2]]
    context = multiprocessing.get_context("spawn")
    while remaining:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, factories, remaining, seed))
        process.start()
        theirs.close()
        try:
            fault = _collect(ours, tallies, remaining, limit_s)
        finally:
            process.kill()
            process.join()
            ours.close()
        if remaining:
            name, k, stop = remaining[0]
            end = fault or f"the process died with exit code {process.exitcode}"
            tallies[name].add(k, Result("", end, (), 0.0))
            remaining[0] = (name, k + 1, stop)
            if k + 1 >= stop:
                remaining.pop(0)
    return tallies


def _collect(
    pipe: Connection, tallies: dict[str, Tally], remaining: list[Job], limit_s: float
) -> str:
    """Counts results until all jobs are done or the worker fails; returns why it was stopped."""
    limit = START_LIMIT_S
    while remaining:
        if not pipe.poll(limit):
            return f"longer than {limit:.0f} s"
        try:
            message: Any = pipe.recv()
        except (EOFError, OSError):
            return ""  # the process died
        limit = START_LIMIT_S if message == "start" else limit_s
        name, k, stop = remaining[0]
        if isinstance(message, float):
            tallies[name].peak_mib = max(tallies[name].peak_mib, message)
            if k == stop:
                remaining.pop(0)
        elif isinstance(message, Result):
            tallies[name].add(k, message)
            remaining[0] = (name, k + 1, stop)
    return ""


def _work(pipe: Connection, factories: Mapping[str, Factory], jobs: list[Job], seed: int) -> None:
    warnings.simplefilter("ignore")
    limit_memory(MEMORY_BYTES)
    with tempfile.TemporaryDirectory() as folder, suppress(BrokenPipeError):
        for name, first, stop in jobs:
            pipe.send("start")
            target = make_target(factories[name], Path(folder))
            before = reset_peak()
            pipe.send("")
            for k in range(first, stop):
                pipe.send(run_case(target, seed, k))
            target.path.write_bytes(target.valid)
            pipe.send(peak_mib() - before)
        pipe.send("start")


def make_target(factory: Factory, folder: Path) -> Target:
    """Makes a target, and checks that its valid file is read."""
    target = factory(folder)
    target.path.write_bytes(target.valid)
    outcome, message = check(target, target.valid)
    assert outcome == "same", message
    return target


def limit_memory(size: int) -> None:
    """Limits the address space of this process to its present size and some bytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def reset_peak() -> float:
    """Restarts the measurement of `peak_mib`; returns the memory in use in MiB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """Returns the largest resident memory of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
