"""Writes the scalars of a run to `metrics.jsonl` and to TensorBoard."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_jax.data.files import atomic_file, finite_or_null


class MetricsWriter:
    """Appends scalars to `<workdir>/metrics.jsonl` and to TensorBoard files beside it.

    If the disk is full, lines are kept in memory and written once there is room; training goes on.
    """

    def __init__(self, workdir: Path, start: int, active: bool = True) -> None:
        """Opens the files.

        Args:
          workdir: Folder of the run.
          start: Step to go on from; later lines, of a run that was cut, are removed.
          active: Whether this process writes; False on all processes but one.
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
        """Writes the scalars of one step."""
        if not self._active:
            return
        self._unwritten += json.dumps(finite_or_null({"step": step, **values})) + "\n"
        size = self._path.stat().st_size if self._path.is_file() else 0
        try:
            with open(self._path, "a") as lines:
                lines.write(self._unwritten)
            self._unwritten = ""
        except OSError:
            os.truncate(self._path, size)
        self._board.write(step, values)

    def close(self) -> None:
        """Closes the files."""
        if self._active:
            self._board.close()


class _Board:
    """TensorBoard event files, written in the caller's thread: a dead writer thread would block."""

    def __init__(self, folder: Path, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._first = folder, first
        self._file: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars; after an error they are lost, and later ones go to a new file."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import Summary

        try:
            if self._file is None:
                self._file = EventsWriter(str(self._folder / "events"))
                # Makes TensorBoard drop later events of a run that was cut.
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
