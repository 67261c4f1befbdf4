"""Files written atomically, their digests, and the guard of `--overwrite`."""

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
    """Yield a temporary sibling of `path`, then fsync it and rename it into place.

    A crash at any moment leaves the old file or the new one, never a part of it.
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
    """Write JSON atomically, one key a line so that it reads and diffs well."""
    with atomic_file(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def refuse_to_overwrite(path: Path, overwrite: bool, holds: str) -> None:
    """Refuses an output that already exists.

    Args:
      path: File whose existence marks a finished output, e.g. `<dataset>/manifest.json`.
      overwrite: Whether the command was given --overwrite.
      holds: Noun for what is there, e.g. `a dataset`.

    Raises:
      InputError: `path` exists and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path.parent}: holds {holds} already; pass --overwrite to replace it")
