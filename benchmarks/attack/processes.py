"""Runs of a command in processes that can be killed, and disks that can be made too small."""

import atexit
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bridge_jax import cli

_LONGEST_SECONDS = 300.0
Main = Callable[[Sequence[str] | None], int | None]


class Outcome(NamedTuple):
    """Exit code, or minus the signal, and standard error of a command that has ended."""

    code: int
    stderr: str

    @property
    def last_line(self) -> str:
        """Last line of standard error."""
        return (self.stderr.strip().splitlines() or [""])[-1]


class Process:
    """A command in a process group of its own, forked from this process.

    This process has imported the modules, so that a run does not spend seconds on that. It must not
    have used JAX, whose threads a forked process does not have.
    """

    def __init__(self, module: str, argv: Sequence[str], log: Path) -> None:
        """Starts the command."""
        self._log = log
        self._ended: int | None = None
        main = importlib.import_module(module).main
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # JAX is imported, but not used
            self._pid = os.fork()
        if not self._pid:
            _run_and_exit(main, [module, *argv], log)

    def signal(self, number: int) -> None:
        """Sends a signal: SIGTERM to the process, another one to its group, as a terminal does."""
        send = os.kill if number == signal.SIGTERM else os.killpg
        with contextlib.suppress(ProcessLookupError):
            send(self._pid, number)

    def wait(self) -> Outcome:
        """Waits until the command has ended; kills it if that takes minutes."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while not self._poll():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
            time.sleep(0.01)
        code = os.waitstatus_to_exitcode(self._ended or 0)
        return Outcome(code, self._log.read_text(errors="replace"))

    def _poll(self) -> bool:
        if self._ended is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._ended = status if pid else None
        return self._ended is not None


def _run_and_exit(main: Main, argv: list[str], log: Path) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        sys.argv = argv
        cli.run(main)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stderr.flush()
        os._exit(code)


class Disk:
    """A mounted tmpfs whose size can be changed."""

    def __init__(self, folder: Path) -> None:
        """Takes over a mount point."""
        self.folder = folder

    def resize(self, size: int) -> None:
        """Changes the size, in bytes."""
        options = f"remount,size={max(size, os.sysconf('SC_PAGE_SIZE'))}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def used(self) -> int:
        """Returns the number of bytes in use."""
        status = os.statvfs(self.folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk | None]:
    """Mounts a tmpfs; gives None where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
