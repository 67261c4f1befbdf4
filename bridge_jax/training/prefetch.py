"""Compute what the next steps need while the device is at work on this one."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Values of a function of the step, `depth` steps ahead of the caller, in a thread.

    The function must be pure: a value that was computed ahead and never asked for leaves no trace.
    """

    def __init__(self, function: Callable[[int], T], start: int, stop: int, depth: int = 2) -> None:
        """Begin with step `start`.

        Args:
          function: of the step.
          start: the first step to be asked for.
          stop: one past the last.
          depth: how far to be ahead.
        """
        self._function, self._next, self._stop = function, start, stop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead: deque[Future[T]] = deque()
        for _ in range(depth):
            self._submit()

    def __call__(self) -> T:
        """The value of the next step; errors of the function are raised here."""
        self._submit()
        return self._ahead.popleft().result()

    def __enter__(self) -> "Prefetch[T]":
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        """Drop what was not asked for."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        if self._next < self._stop:
            self._ahead.append(self._thread.submit(self._function, self._next))
            self._next += 1
