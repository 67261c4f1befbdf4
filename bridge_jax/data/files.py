"""Atomic file writes, paths that stay in their folder, checksums and the check of `--overwrite`."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bridge_jax.errors import InputError

_TEMPORARY_NAME = re.compile(r"\..+\.\d+\.tmp")
_STAGING_NAME = re.compile(r"\.new\.\d+\.tmp")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # too little room on the disk or in a quota


class DiskFullError(OSError):
    """A file cannot be written for lack of space; the message names it and the remedy."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to `path`; on success syncs it to disk and renames it.

    After a crash at any moment `path` holds either its old content or all of the new content.

    Args:
      path: File to write. Missing parent folders are created.

    Yields:
      Path of the temporary file; the caller writes it.

    Raises:
      DiskFullError: The disk or the quota is full, or the file is too large for the system.
      OSError: The file cannot be written for another reason.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as e:
        if e.errno not in NO_SPACE or isinstance(e, DiskFullError):
            raise
        state = "its old content was kept" if path.exists() else "nothing was left under its name"
        message = f"{os.strerror(e.errno)}; {state}; make room and run the same command again"
        raise DiskFullError(e.errno, message, str(path)) from e
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary_files(folders: Iterable[Path]) -> None:
    """Removes what killed writers left in some folders; hold the lock of the output folder.

    Args:
      folders: Folders; their subfolders are not searched.
    """
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if _STAGING_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif _TEMPORARY_NAME.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def path_inside(root: Path, file: str) -> Path:
    """Returns the path of a file that a manifest, a journal or a sidecar lists.

    Args:
      root: Folder of the manifest, journal or sidecar.
      file: Path relative to it.

    Raises:
      InputError: The path is absolute, contains `..`, or leaves the folder through a link.
    """
    try:
        check_relative(file)
    except InputError as e:
        raise InputError(f"{root}: {e}") from e
    path = root / file
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{path}: is a link out of its folder; put the file itself there, or make the folder "
            "again"
        )
    return path


def check_file_size(handle: IO[bytes], expected: int) -> None:
    """Checks that everything written to an open file, and flushed, is in it.

    Raises:
      OSError: The file has another size: the filesystem has lost data.
    """
    size = os.fstat(handle.fileno()).st_size
    if size != expected:
        raise OSError(f"{handle.name}: {size} bytes after {expected} were written; check the disk")


def check_relative(file: str) -> None:
    """Checks that a stored path is relative and stays inside its folder.

    Args:
      file: The path.

    Raises:
      InputError: The path is empty or absolute, or contains `.`, `..` or a control character.
    """
    parts = file.split("/")
    if PurePosixPath(file).is_absolute() or {"", ".", ".."} & set(parts) or not file.isprintable():
        raise InputError(
            f"the path {file[:200]!r} is not a relative one inside its folder; make it again"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, one key per line so that it is easy to read and to diff.

    NaN and infinity, which JSON does not have, are written as null.
    """
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite_or_null(value), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def finite_or_null(value: Any) -> Any:
    """Returns JSON values with None for each NaN and infinity."""
    if isinstance(value, dict):
        return {k: finite_or_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; returns an empty one if the file is missing or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def refuse_to_overwrite(path: Path, overwrite: bool, holds: str) -> None:
    """Raises an error if an output already exists.

    Args:
      path: File whose existence marks a finished output, e.g. `<dataset>/manifest.json`.
      overwrite: Whether the command was given `--overwrite`.
      holds: Noun phrase for the existing output in the message, e.g. `a dataset`.

    Raises:
      InputError: `path` exists and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path.parent}: holds {holds} already; pass --overwrite to replace it")
