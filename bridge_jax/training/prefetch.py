"""Computes what the next steps need while the device works on this one."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """Yields the same items in the same order, computed ahead of the caller in a thread.

    Close the generator (`contextlib.closing`) to end the thread before the last item; items that
    were computed and not taken are dropped.

    Args:
      items: Iterable to read from; its errors are raised where its item would be yielded.
      depth: Number of items computed ahead.
    """
    end, iterator = object(), iter(items)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        waiting = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, iterator, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
