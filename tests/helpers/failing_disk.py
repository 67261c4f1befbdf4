"""A disk that is full for a moment: one write fails, those after it succeed."""

import builtins
import errno
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class FailingFile:
    """File whose write number `fails_at` is cut in half and raises `ENOSPC`."""

    def __init__(self, handle: Any, counter: list[int], fails_at: int) -> None:
        self._handle, self._counter, self._fails_at = handle, counter, fails_at

    def write(self, data: Any) -> int:
        self._counter[0] += 1
        if self._counter[0] == self._fails_at:
            raw = bytes(data) if not isinstance(data, str) else data
            self._handle.write(raw[: len(raw) // 2])
            self._handle.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._handle.write(data))

    def __enter__(self) -> "FailingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


def fail_once(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, fails_at: int
) -> Callable[[], int]:
    """Lets a write to the files that a module opens fail; returns the number of writes so far."""
    counter = [0]

    def open_file(path: Any, mode: str = "r", **options: Any) -> Any:
        handle = builtins.open(path, mode, **options)  # noqa: SIM115
        return FailingFile(handle, counter, fails_at) if mode.startswith("wb") else handle

    monkeypatch.setattr(module, "open", open_file, raising=False)
    return lambda: counter[0]
