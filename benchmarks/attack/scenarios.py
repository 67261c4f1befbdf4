"""What is done to a command while it writes, and what must be true afterwards."""

import random
import re
import shutil
import signal
import time
from pathlib import Path

from .commands import Command
from .processes import Disk, Outcome, Process, small_disk
from .results import contents, differences

SCENARIOS = ("killed", "interrupted", "full disk", "two at once")
_MARGIN = 1 << 16  # bytes of a disk for locks and folders
_REFUSED = re.compile(r"another process writes here|--overwrite|holds a run|is not empty|running")


class Attack:
    """Attacks on one command, beside its undisturbed results."""

    def __init__(self, command: Command, scratch: Path, rng: random.Random) -> None:
        """Runs the command undisturbed, with both sets of options.

        Args:
          command: The command.
          scratch: Folder for its outputs.
          rng: Source of the moments and sizes.
        """
        self._command, self._scratch, self._rng = command, scratch, rng
        self._expected, self._seconds, self._size = [], 0.0, 0
        scratch.mkdir(parents=True)
        for which in (0, 1):
            # All outputs have one name, because a dataset is named for its folder.
            output = scratch / f"expected{which}" / self._command.output
            self._prepare(output)
            start = time.perf_counter()
            outcome = self._start(which, output).wait()
            self._seconds = time.perf_counter() - start
            if outcome.code:
                raise RuntimeError(f"{command.name} fails undisturbed: {outcome.stderr}")
            self._expected.append(contents(output))
            files = [output] if output.is_file() else [p for p in output.rglob("*") if p.is_file()]
            self._size = max(self._size, sum(p.stat().st_size for p in files))

    def run(self, scenario: str, replace: bool) -> str | None:
        """Attacks once.

        Args:
          scenario: One of `SCENARIOS`.
          replace: Whether an old output is there, where the command can replace one.

        Returns:
          What went wrong; empty if nothing, None if it cannot be done here.
        """
        replace = replace and self._command.replaces
        shutil.rmtree(self._scratch / "try", ignore_errors=True)
        output = self._scratch / "try" / self._command.output
        if scenario == "full disk":
            with small_disk(output.parent) as disk:
                return None if disk is None else self._fill(disk, output, replace)
        if scenario == "two at once":
            return self._two_at_once(output)
        self._prepare(output, old=replace)
        if scenario == "killed":
            return self._stop(output, replace, signal.SIGKILL)
        return self._stop(output, replace, self._rng.choice((signal.SIGINT, signal.SIGTERM)))

    def _prepare(self, output: Path, old: bool = False) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        source = self._scratch / "expected0" / self._command.output if old else self._command.before
        if source is not None and source.is_file():
            shutil.copy(source, output)
        elif source is not None:
            shutil.copytree(source, output)

    def _stop(self, output: Path, replace: bool, number: signal.Signals) -> str:
        which = int(replace)
        process = self._start(which, output, replace)
        time.sleep(self._rng.uniform(0.02, 1.0) * self._seconds)
        process.signal(number)
        outcome = process.wait()
        if fault := self._check_stopped(outcome, number):
            return fault
        if replace and (fault := self._lost(output)):
            return f"after exit code {outcome.code}: {fault}"
        finished = {} if replace else _finished_shards(output)
        fault = self._repeat(which, output, replace)
        if not fault and finished.items() - _finished_shards(output).items():
            return "a finished shard was written again"
        return fault

    def _check_stopped(self, outcome: Outcome, number: signal.Signals) -> str:
        codes = {0, -number, *(self._command.stop_codes.get(number, ()))}
        if number == signal.SIGKILL:
            return ""
        if outcome.code not in codes:
            return f"exit code {outcome.code} after {number.name}: {outcome.last_line}"
        if "Traceback" in outcome.stderr:
            return f"a traceback after {number.name}: {outcome.stderr}"
        return ""

    def _lost(self, output: Path) -> str:
        """Says which files of the old result are gone without the new result being complete.

        During the renames at the end, a part of the new result may be in its place, and the rest in
        a folder beside it, from which the next command takes it.
        """
        values = set(contents(output).values())
        complete = [set(e.values()) <= values for e in self._expected]
        if any(complete):
            return ""
        if self._command.file_by_file:
            either = [set(e.items()) for e in self._expected]
            wrong = [k for k, v in contents(output).items()
                     if (k, v) not in either[0] | either[1] and not _is_hidden(k)]  # fmt: skip
            return f"neither old nor new: {' '.join(wrong)}" if wrong else ""
        return "files of the old result are gone"

    def _repeat(self, which: int, output: Path, replace: bool) -> str:
        outcome = self._start(which, output, replace).wait()
        # The result was complete before the attack, and the command says so.
        is_done = outcome.code == 2 and "--overwrite" in outcome.stderr and not replace
        if outcome.code and not is_done:
            return f"exit code {outcome.code} afterwards: {outcome.last_line}"
        if "Traceback" in outcome.stderr:
            return f"a traceback afterwards: {outcome.stderr}"
        found = contents(output)
        if is_done:
            left = (".lock/", ".swap/")  # swept by the next command that writes
            found = {k: v for k, v in found.items() if not k.startswith(left)}
        wrong = differences(found, self._expected[which])
        return f"other files than undisturbed: {wrong}" if wrong else ""

    def _fill(self, disk: Disk, output: Path, replace: bool) -> str:
        which = int(replace)
        self._prepare(output, old=replace)
        room = int(self._rng.uniform(0.02, 0.95) * self._size)
        disk.resize(disk.used() + room + _MARGIN // 8)
        outcome = self._start(which, output, replace).wait()
        if outcome.code not in (0, 2) or "Traceback" in outcome.stderr:
            return f"exit code {outcome.code} on a full disk: {outcome.last_line}"
        if outcome.code and "No space left" not in outcome.stderr:
            return f"another message on a full disk: {outcome.last_line}"
        if outcome.code and replace and (fault := self._lost(output)):
            return f"on a full disk, {fault}"
        disk.resize(disk.used() + 10 * self._size + (1 << 22))
        return self._repeat(which, output, replace) if outcome.code else self._same(which, output)

    def _same(self, which: int, output: Path) -> str:
        wrong = differences(contents(output), self._expected[which])
        return f"other files than undisturbed: {wrong}" if wrong else ""

    def _two_at_once(self, output: Path) -> str:
        self._prepare(output)
        processes = [self._start(which, output) for which in (0, 1)]
        outcomes = [process.wait() for process in processes]
        codes = [outcome.code for outcome in outcomes]
        for outcome in outcomes:
            if "Traceback" in outcome.stderr:
                return f"a traceback: {outcome.stderr}"
        if sorted(codes) == [0, 2]:
            refusal = outcomes[codes.index(2)].stderr
            if not _REFUSED.search(refusal):
                return f"refused in other words: {refusal.strip()}"
            return self._same(codes.index(0), output)
        if codes == [0, 0] and self._command.last_one_wins:
            faults = [self._same(which, output) for which in (0, 1)]
            return faults[0] if all(faults) else ""
        return f"exit codes {codes}: {' / '.join(o.last_line for o in outcomes)}"

    def _start(self, which: int, output: Path, overwrite: bool = False) -> Process:
        command = self._command
        argv = [*command.options[which], command.flag, str(output)]
        argv += command.overwrite if overwrite else ()
        self._number = getattr(self, "_number", 0) + 1
        return Process(command.module, argv, self._scratch / f"{self._number}.log")


def _finished_shards(output: Path) -> dict[Path, int]:
    """Returns the journal entries of finished shards, and when each was written."""
    return {p: p.stat().st_mtime_ns for p in output.glob(".export/*-of-*.json")}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)
