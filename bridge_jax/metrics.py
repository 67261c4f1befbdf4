"""Where numbers go while a run goes on: `metrics.jsonl`, TensorBoard, and one live line."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from bridge_jax.records import atomic_file


class MetricsWriter:
    """Append scalars to `<workdir>/metrics.jsonl` and to TensorBoard files beside it."""

    def __init__(self, workdir: Path, start: int, active: bool = True) -> None:
        """Open the writers.

        Args:
          workdir: the run.
          start: the step to go on from; lines after it are of a run that was cut, and dropped.
          active: False on all processes but one.
        """
        self._active = active
        if not active:
            return
        from tensorboardX import SummaryWriter

        self._path = workdir / "metrics.jsonl"
        if self._path.is_file():
            kept = [line for line in self._path.read_text().splitlines() if _step(line) <= start]
            with atomic_file(self._path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept))
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line of scalars."""
        if not self._active:
            return
        with open(self._path, "a") as lines:
            lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._active:
            self._board.close()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a half-written last line


class Progress:
    """A live line on a terminal, a plain line now and then elsewhere."""

    def __init__(
        self,
        total: int,
        start: int = 0,
        stream: TextIO | None = None,
        active: bool = True,
        unit: str = "step",
    ) -> None:
        """Start the clock.

        Args:
          total: steps of the whole run.
          start: steps done before.
          stream: where to write; by default standard error.
          active: False on all processes but one.
          unit: what is counted.
        """
        stream = sys.stderr if stream is None else stream
        self._unit = unit
        self._total, self._start, self._stream, self._active = total, start, stream, active
        self._began = self._last = time.monotonic()
        self._live = stream.isatty() and active
        self._open = False

    def update(self, step: int, **values: Any) -> None:
        """Show `step`, the values, and the time left."""
        now = time.monotonic()
        if not self._active:
            return
        if not self._live and now - self._last < 5 and step < self._total:
            return
        self._last = now
        done = max(step - self._start, 1)
        left = (self._total - step) * (now - self._began) / done
        shown = "  ".join(
            f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
        )
        line = f"{self._unit} {step:,}/{self._total:,}  {shown}  {clock(left)} left"
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()
        self._open = self._live

    def say(self, text: str) -> None:
        """Print a line of its own without breaking the live one."""
        if not self._active:
            return
        if self._open:
            self._stream.write("\r\x1b[K")
            self._open = False
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the live line."""
        if self._open:
            self._stream.write("\n")
            self._open = False


def clock(seconds: float) -> str:
    """`75` as `1:15`, `3700` as `1:01:40`."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
