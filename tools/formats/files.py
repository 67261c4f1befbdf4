"""TODO"""

import gzip
from pathlib import Path
from typing import IO

from bridge_jax.errors import InputError


def open_text(path: Path) -> IO[bytes]:
    """Open a plain or gzipped file for reading bytes; gzip is recognised by its first bytes."""
    gzipped = first_bytes(path)[:2] == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else open(path, "rb")  # type: ignore[return-value]


def first_bytes(path: Path) -> bytes:
    """The first 64 bytes of a file.

    Raises:
      InputError: the file is missing or empty, or a Git LFS pointer in its place.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as handle:
        magic = handle.read(64)
    if magic.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: this is a Git LFS pointer: run `git lfs pull`")
    if not magic:
        raise InputError(f"{path}: the file is empty")
    return magic
