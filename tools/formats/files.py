"""Opening of plain or gzipped input files, with errors for missing files and Git LFS pointers."""

import gzip
from pathlib import Path
from typing import IO

from bridge_jax.errors import InputError

GIT_LFS_POINTER = b"version https://git-lfs"  # the first bytes of a pointer file


def open_decompressed(path: Path) -> IO[bytes]:
    """Opens a plain or gzipped file for reading decompressed bytes.

    Gzip is recognised by the first bytes of the file, not by its name.

    Raises:
      InputError: The file is missing, empty or a Git LFS pointer.
    """
    gzipped = first_bytes(path)[:2] == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else open(path, "rb")  # type: ignore[return-value]


def first_bytes(path: Path) -> bytes:
    """Returns up to 64 bytes from the start of a file.

    Raises:
      InputError: The file is missing, empty or a Git LFS pointer.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as handle:
        first = handle.read(64)
    if first.startswith(GIT_LFS_POINTER):
        raise InputError(f"{path}: this is a Git LFS pointer: run `git lfs pull`")
    if not first:
        raise InputError(f"{path}: the file is empty")
    return first
