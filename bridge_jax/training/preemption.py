"""Say what happened when the runtime ends this process because another one is gone.

JAX may notice a death before Python does, in a collective or a barrier of a save that never
returns, and then ends the process from C++: no exception, no handler, only a stack trace. A second,
tiny process waits for that and says where the run goes on. It imports nothing but the standard
library.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE = "done"


def gone(workdir: str | Path) -> str:
    """What to tell the user of a run that lost a process."""
    steps = [int(p.name) for p in Path(workdir, "checkpoints").glob("*") if p.name.isdigit()]
    return (
        "another process of this run is gone; start them all again, they go on from step "
        f"{max(steps, default=0)}"
    )


@contextmanager
def watched(workdir: Path) -> Iterator[None]:
    """Within the block, an end of this process that Python does not see is explained."""
    watch = subprocess.Popen(
        [sys.executable, __file__, str(workdir.absolute())],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.communicate(DONE)


def _wait(workdir: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler signals every process of a job
    if sys.stdin.read() != DONE:
        print(f"error: {gone(workdir)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _wait(sys.argv[1])
