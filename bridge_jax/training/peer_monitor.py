"""Explains why the runtime ended this process when another process of the run has died.

JAX may notice a death before Python does, in a collective or in a barrier of a save that never
returns. It then ends the process from C++: no exception, no handler, only a stack trace. A second,
tiny process waits for that and prints from which step the run goes on. This file imports the
standard library only, so that the second process starts at once.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE = "done"


def peer_failure_message(workdir: str | Path) -> str:
    """Returns the message for the user of a run that lost a process."""
    steps = [int(p.name) for p in Path(workdir, "checkpoints").glob("*") if p.name.isdigit()]
    return (
        "another process of this run has died; start all of them again, and the run goes on from "
        f"step {max(steps, default=0)}"
    )


@contextmanager
def monitor_peers(workdir: Path) -> Iterator[None]:
    """Prints an explanation if this process ends inside the block without Python noticing."""
    monitor = subprocess.Popen(
        [sys.executable, __file__, str(workdir.absolute())],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield
    finally:
        monitor.communicate(DONE)


def _wait(workdir: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler signals every process of a job
    if sys.stdin.read() != DONE:
        print(f"error: {peer_failure_message(workdir)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _wait(sys.argv[1])
