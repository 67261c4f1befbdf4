"""Where numbers go while a run goes on: `metrics.jsonl`, TensorBoard, and one live line."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_jax.data.files import atomic_file


class MetricsWriter:
    """Append scalars to `<workdir>/metrics.jsonl` and to TensorBoard files beside it.

    What a full disk refuses is kept and written when there is room again; training goes on.
    """

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
        self._unwritten = ""
        self._path = workdir / "metrics.jsonl"
        if self._path.is_file():
            kept = [line for line in self._path.read_text().splitlines() if _step(line) <= start]
            with atomic_file(self._path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept))
        self._board = _Board(workdir / "tensorboard", start + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line of scalars."""
        if not self._active:
            return
        self._unwritten += json.dumps({"step": step, **values}) + "\n"
        whole = self._path.stat().st_size if self._path.is_file() else 0
        try:
            with open(self._path, "a") as lines:
                lines.write(self._unwritten)
            self._unwritten = ""
        except OSError:
            os.truncate(self._path, whole)
        self._board.write(step, values)

    def close(self) -> None:
        """Close the files."""
        if self._active:
            self._board.close()


class _Board:
    """TensorBoard's event files, written in the caller's thread: one that dies would block it."""

    def __init__(self, folder: Path, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._first = folder, first
        self._file: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars; after an error they are lost, and the next ones go to another file."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import Summary

        try:
            if self._file is None:
                self._file = EventsWriter(str(self._folder / "events"))
                # Hides what a run that was cut wrote from here on.
                start = SessionLog(status=SessionLog.START)
                self._file.write_event(Event(step=self._first, session_log=start))
            scalars = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            event = Event(step=step, wall_time=time.time(), summary=Summary(value=scalars))
            self._file.write_event(event)
            self._file.flush()
        except OSError:
            self._file, self._first = None, step + 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a half-written last line
