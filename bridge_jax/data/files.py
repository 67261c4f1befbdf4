"""Atomic file writes, file checksums and the check behind `--overwrite`."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to `path`; on success syncs it to disk and renames it.

    After a crash at any moment `path` holds either its old content or all of the new content.

    Args:
      path: File to write. Missing parent folders are created.

    Yields:
      Path of the temporary file; the caller writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, one key per line so that it is easy to read and to diff."""
    with atomic_file(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


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
