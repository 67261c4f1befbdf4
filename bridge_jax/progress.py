"""Progress of long work: a live bar on a terminal and in a notebook, plain lines elsewhere."""

import sys
import time
from io import TextIOBase
from typing import Any, TextIO

from tqdm.std import tqdm

_SECONDS = 5.0  # between two plain lines
_BAR = "{desc}{n:,}/{total:,} {unit}s {bar:20} {postfix} {remaining} left"


class Progress:
    """Shows how far work has come, how fast it goes and how long it will take."""

    def __init__(
        self,
        total: int,
        unit: str = "step",
        *,
        stream: TextIO | TextIOBase | None = None,
        active: bool = True,
    ) -> None:
        """Prepares the display; the clock starts with the first update.

        Args:
          total: Number of units of the whole work.
          unit: Noun for what is counted, in the singular.
          stream: Text stream to write to; default: standard error.
          active: Whether to show anything; False on all processes but one.
        """
        self._stream = sys.stderr if stream is None else stream
        self._total, self._unit, self._active = total, unit, active
        self._live = active and (self._stream.isatty() or "ipykernel" in sys.modules)
        self._bar: tqdm[Any] | None = None
        self._last = time.monotonic()
        self._first: tuple[int, float] | None = None  # work before it compiles or reads

    def update(self, done: int, **values: Any) -> None:
        """Shows that `done` units are finished, with some values beside.

        Args:
          done: Units finished so far.
          **values: Scalars to show by name, e.g. `loss=0.5`.
        """
        if not self._active:
            return
        shown = "  ".join(
            f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
        )
        if self._live:
            if self._bar is None:
                self._bar = tqdm(
                    total=self._total, initial=done, unit=self._unit, bar_format=_BAR,
                    file=self._stream, dynamic_ncols=True,
                )  # fmt: skip
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last < _SECONDS and done < self._total:
            return
        self._last = now
        if self._first is None:
            self._first = done, now
        since, seconds = done - self._first[0], now - self._first[1]
        left = f"  {clock((self._total - done) * seconds / since)} left" if since else ""
        self._write(f"{self._unit} {done:,}/{self._total:,}  {shown}{left}")

    def print(self, text: str) -> None:
        """Prints a line of its own without breaking the bar."""
        if self._active:
            self._write(text)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()


class RateProgress(Progress):
    """Progress of a stream of rows, with rows per second."""

    def __init__(self, total: int, unit: str = "row") -> None:
        """Prepares the display and starts the clock.

        Args:
          total: Number of rows of the whole work.
          unit: Noun for a row.
        """
        super().__init__(total, unit)
        self._done, self._start, self._shown = 0, time.monotonic(), 0.0

    def advance(self, rows: int) -> None:
        """Counts further rows as done; shows it at most five times per second."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown < 0.2 and self._done < self._total:
            return
        self._shown, rate = now, self._done / max(now - self._start, 1e-9)
        self.update(self._done, **{f"{self._unit}s/s": f"{rate:,.0f}"})


def clock(seconds: float) -> str:
    """Formats a duration: 75 as `1:15`, 3700 as `1:01:40`."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
