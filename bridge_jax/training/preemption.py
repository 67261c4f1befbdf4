"""Stops a run on SIGTERM, SIGINT or SIGHUP, at the same step on all processes."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AGAIN = b"\nstopping after this step; press Ctrl-C again to stop at once\n"


class PreemptionHandler:
    """Tells whether a signal has asked this run to stop; to be used in a `with` statement.

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a closed terminal) ask for a stop before the next step.
    A second SIGINT raises `KeyboardInterrupt`. A signal that is ignored, as SIGHUP is under
    `nohup`, stays ignored.

    Attributes:
      requested: Signal that has asked for the stop, or None.
    """

    def __init__(self) -> None:
        """Makes a handler that is not installed yet."""
        self.requested: signal.Signals | None = None
        self._several = jax.process_count() > 1
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "PreemptionHandler":
        """Installs the handlers, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in SIGNALS:
            # With several processes, JAX has installed its own handler of SIGTERM.
            if number == signal.SIGTERM and self._several:
                continue
            if signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        """Restores the handlers that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
        if number == signal.SIGINT:
            os.write(2, _AGAIN)
        if self._several:  # JAX's handler tells the other processes
            os.kill(os.getpid(), signal.SIGTERM)

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop before a step; all processes agree on the answer."""
        if not self._several:
            return self.requested is not None
        if multihost_utils.reached_preemption_sync_point(step):
            self.requested = self.requested or signal.SIGTERM
            return True
        return False
