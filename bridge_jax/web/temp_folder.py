"""Temporary folder of the web server: only its user can read it, and it never stays behind."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PREFIX = "bridge_jax-serve-"
_LOCK = "lock"
_LOCK_DELAY = 60  # seconds after which a folder without a lock belongs to no server that starts


@contextmanager
def private_temp_folder() -> Iterator[Path]:
    """Creates the temporary folder of this process, and makes it the place of all temporary files.

    While the context lasts the folder is locked, has mode 0700, and new files of the process are
    readable by its user only. At the end it is removed. A process that is killed by SIGKILL leaves
    its folder, but not the lock on it: the next call by the same user removes that folder.

    Yields:
      Path of the folder.
    """
    remove_leftovers(Path(tempfile.gettempdir()))
    previous_umask, previous_folder = os.umask(0o077), tempfile.tempdir
    try:
        lock, folder = _create()
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
    finally:
        tempfile.tempdir = previous_folder
        os.umask(previous_umask)


def _create() -> tuple[Any, Path]:
    from filelock import FileLock, Timeout

    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = FileLock(str(folder / _LOCK), mode=0o600, thread_local=False)
        with suppress(Timeout, OSError):  # another server starts, and took it for a leftover
            lock.acquire(timeout=0)
            if (folder / _LOCK).exists():
                return lock, folder
            lock.release()


def remove_leftovers(parent: Path) -> None:
    """Removes the folders of servers of this user that were killed.

    Args:
      parent: Folder for temporary files.
    """
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(Timeout, OSError):
            state = folder.lstat()
            is_own = not hasattr(os, "getuid") or state.st_uid == os.getuid()
            if not stat.S_ISDIR(state.st_mode) or not is_own:
                continue
            is_new = time.time() - state.st_mtime < _LOCK_DELAY
            if is_new and not (folder / _LOCK).exists():
                continue
            lock = FileLock(str(folder / _LOCK), thread_local=False)
            lock.acquire(timeout=0)  # fails while its server lives
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
