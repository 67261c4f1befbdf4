"""Stops a run on SIGTERM, at the same step on all processes."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class PreemptionHandler:
    """Tells whether SIGTERM has asked this run to stop.

    Attributes:
      requested: Whether to stop.
    """

    def __init__(self) -> None:
        """Installs a handler of SIGTERM; with several processes, JAX has installed its own."""
        self.requested = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self.requested = True

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop before a step; all processes agree on the answer."""
        if jax.process_count() > 1:
            self.requested |= multihost_utils.reached_preemption_sync_point(step)
        return self.requested
