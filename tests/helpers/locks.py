"""An output folder that another writer has locked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge_jax.data.output_lock import output_lock


@contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder in another thread while the context lasts."""
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with output_lock(folder):
            locked.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    try:
        yield
    finally:
        release.set()
        thread.join()
