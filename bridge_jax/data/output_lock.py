"""Lock on an output folder, so that two commands never write to it at the same time.

Each process that writes to a folder holds a lock file of its own, and says in a file beside it who
it is:

    FOLDER/.lock/<holder>.lock    locked with `flock` as long as the process lives
    FOLDER/.lock/<holder>.json    process id, host, start time and command

A process first locks its own file and then looks at the others. If it finds the lock of another
job, it withdraws; of two that start at the same moment at least one therefore sees the other. The
operating system releases the lock of a process that ends for any reason, SIGKILL included; what it
left in `.lock` is removed by the next command.

Network filesystems: on NFS (Linux 2.6.12 and later, mounted without `nolock` or `local_lock`), on
Lustre mounted with `flock` and on CephFS the lock holds across hosts. Where the mount keeps locks
local to a host, two hosts do not see each other's; where `flock` is missing, `filelock` falls back
to the existence of the file, and the file of a process that died on another host must be deleted
by hand.
"""

import hashlib
import json
import os
import random
import re
import secrets
import shlex
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError

LOCK_FOLDER = ".lock"
SWAP_FOLDER = ".swap"  # of `bridge_jax.data.folder_swap`
_LOCK_NAME = re.compile(r"(all|[0-9a-f]{16})-(exclusive|[0-9a-f]{16})-\d+-[0-9a-f]{16}\.lock")
_MAX_JSON_BYTES = 65_536  # of a file that says who holds a lock
_MAX_COMMAND_CHARS = 200  # of the command in a message
_held: Counter[tuple[int, int, Path, str, str]] = Counter()  # by process and thread


@contextmanager
def output_lock(
    folder: str | Path,
    job: str | None = None,
    part: str | None = None,
    timeout: float = 0.5,
) -> Iterator[None]:
    """Locks an output folder against other processes while the context lasts.

    The folder is created if it does not exist, and removed again if it is empty at the end. A
    thread that holds a lock may take it again, and any part of a folder that it has locked.

    Args:
      folder: Output folder.
      job: Text that is equal for all workers that may write to the folder at the same time, such
        as a fingerprint of their options; default None: no other process may.
      part: Part of the folder that is written, such as a node type; jobs that write different
        parts do not exclude each other. Default None: the whole folder.
      timeout: Seconds to wait for another process, default 0.5.

    Raises:
      InputError: Another process writes to the folder, or it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to write")
    locks = folder / LOCK_FOLDER
    if locks.is_symlink() or (locks.exists() and not locks.is_dir()):
        raise InputError(f"{locks}: must be a folder of lock files; delete it")
    scope = "all" if part is None else _sha256(part)
    key = "exclusive" if job is None else _sha256(job)
    thread = (os.getpid(), threading.get_ident(), folder.resolve())
    holder = (*thread, scope, key)
    is_held = _held[holder] or _held[(*thread, "all", "exclusive")]
    is_new = not folder.exists()
    own = None if is_held else _acquire(folder, scope, key, is_new, timeout)
    _held[holder] += 1
    try:
        yield
    finally:
        _held[holder] -= 1
        if own is not None:
            _withdraw(*own)
            _remove_locks(folder, is_new)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _acquire(folder: Path, scope: str, key: str, is_new: bool, timeout: float) -> tuple[Any, Path]:
    message, deadline = "another process writes here", time.monotonic() + timeout
    for attempt in count():
        if attempt and time.monotonic() > deadline:
            break
        if attempt:  # of two commands that start together both may have withdrawn
            time.sleep(random.uniform(0.02, 0.2))
        own = _announce(folder, scope, key)
        if own is None:
            continue
        other = _conflicting_holder(folder, own[1], scope, key)
        if other is None:
            return own
        message = f"another process writes here{_describe(other)}"
        _withdraw(*own)
    _remove_locks(folder, is_new)
    raise InputError(f"{folder}: {message}; wait until it has ended, or choose another folder")


def _remove_locks(folder: Path, is_new: bool) -> None:
    """Removes the folder of locks if nobody holds one, and an output folder that stayed empty."""
    with suppress(OSError):
        _conflicting_holder(folder, folder, "all", "exclusive")  # removes those of the dead
        (folder / LOCK_FOLDER).rmdir()
    if is_new:
        with suppress(OSError):
            folder.rmdir()


def is_empty(folder: Path) -> bool:
    """Returns whether a folder holds nothing but locks and temporary files, or does not exist."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return all(
        n in (LOCK_FOLDER, SWAP_FOLDER) or (n.startswith(".") and n.endswith(".tmp")) for n in names
    )


def _announce(folder: Path, scope: str, key: str) -> tuple[Any, Path] | None:
    """Locks a file of this process; returns the lock and its path, or None if it must try again."""
    from filelock import FileLock, Timeout

    name = f"{scope}-{key}-{os.getpid()}-{secrets.token_hex(8)}.lock"
    path = folder / LOCK_FOLDER / name
    lock = FileLock(str(path), thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError, FileExistsError):  # another one just removed it
        path.unlink(missing_ok=True)
        return None
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.orig_argv),
    }
    with suppress(OSError):  # only for a message; the disk may be full
        path.with_suffix(".json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    if not path.exists():
        _withdraw(lock, path)
        return None
    return lock, path


def _withdraw(lock: Any, path: Path) -> None:
    for file in (path.with_suffix(".json"), path):  # before the release: others remove the dead
        with suppress(OSError):
            file.unlink()
    lock.release()


def _conflicting_holder(folder: Path, own: Path, scope: str, key: str) -> Path | None:
    """Returns the lock of another job that is alive, if any; removes those of dead processes."""
    from filelock import FileLock, Timeout

    found = None
    for path in sorted((folder / LOCK_FOLDER).glob("*.lock")):
        name = _LOCK_NAME.fullmatch(path.name)
        if path == own or path.is_symlink() or not name:
            continue
        is_same_job = key != "exclusive" and name[2] == key
        is_elsewhere = "all" not in (scope, name[1]) and name[1] != scope
        lock = FileLock(str(path), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            found = found if is_same_job or is_elsewhere else path
            continue
        except FileNotFoundError:
            continue
        _withdraw(lock, path)
    return found


def _describe(path: Path) -> str:
    """Describes the holder of a lock, e.g. ` (pid 123 on host a since 14:02: python -m …)`."""
    try:
        with open(path.with_suffix(".json"), encoding="utf-8") as handle:
            about = json.loads(handle.read(_MAX_JSON_BYTES))
        pid, host, since, command = (about[k] for k in ("pid", "host", "since", "command"))
        text = f" (pid {pid} on {host} since {since}: {str(command)[:_MAX_COMMAND_CHARS]})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "".join(c if c.isprintable() else "?" for c in text)
