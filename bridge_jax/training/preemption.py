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
from types import FrameType

import jax
from jax.experimental import multihost_utils

DONE = "done"


def peer_failure_message(workdir: str | Path) -> str:
    """What to tell the user of a run that lost a process."""
    steps = [int(p.name) for p in Path(workdir, "checkpoints").glob("*") if p.name.isdigit()]
    return (
        "another process of this run is gone; start them all again, they go on from step "
        f"{max(steps, default=0)}"
    )


@contextmanager
def monitor_peers(workdir: Path) -> Iterator[None]:
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
        print(f"error: {peer_failure_message(workdir)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _wait(sys.argv[1])


class PreemptionHandler:
    """Whether SIGTERM asked this run to end; all processes agree on the step."""

    def __init__(self) -> None:
        """Take SIGTERM over; with several processes JAX does."""
        self.requested = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self.requested = True

    def now(self, step: int) -> bool:
        """Whether to stop before a step."""
        if jax.process_count() > 1:
            self.requested |= multihost_utils.reached_preemption_sync_point(step)
        return self.requested
