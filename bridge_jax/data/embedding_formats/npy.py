"""NumPy arrays with a text file of ids."""

from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from bridge_jax.data.embedding_formats.arrays import holds
from bridge_jax.data.embedding_formats.base import (
    MatrixFile,
    ReadOptions,
    checked_shape,
    file_state,
    named_errors,
)
from bridge_jax.data.embedding_formats.ids import TextLines
from bridge_jax.data.npy_reader import NpyReader
from bridge_jax.errors import InputError


class IdsBeside(MatrixFile):
    """A matrix whose ids are in the file `<stem>.ids.txt` beside it, one id per line."""

    _lines: TextLines | None = None

    def open_ids(self, path: Path, shape: tuple[int, ...], options: ReadOptions) -> None:
        """Opens the file of ids and sets all attributes.

        Args:
          path: File of the matrix.
          shape: Shape of the matrix; without ids that of a single vector too.
          options: How the file is read.

        Raises:
          InputError: The ids are missing, or there is not one per row.
        """
        self.path, ids_path = path, path.with_suffix(".ids.txt")
        if ids_path.is_file() and len(shape) == 2:
            self._lines = TextLines(ids_path)
            self.notices = self._lines.notices
            self.num_rows, self.dim = checked_shape(path, shape, self._lines.count)
            self.fingerprint = [*file_state(path), *file_state(ids_path)]
        elif options.needs_ids and not ids_path.is_file():
            raise InputError(f"{path}: {ids_path.name} is missing; it holds one id per line")
        else:
            full = (1, *shape) if len(shape) == 1 and not options.needs_ids else shape
            if len(full) != 2 or not full[1]:
                raise InputError(f"{path}: embeddings of shape {shape}; expected [n, dim]")
            self.num_rows, self.dim = full
            self.fingerprint = file_state(path)

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        if self._lines is not None:
            yield from self._lines.blocks(start, stop, block_size)
            return
        for first in range(start, stop, block_size):
            yield [str(i) for i in range(first, min(first + block_size, stop))]


class NpyFile(IdsBeside):
    """Embeddings in `<name>.npy` with ids in `<name>.ids.txt`."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Reads the header of the array and counts the ids.

        Args:
          path: The npy file.
          options: How the file is read.

        Raises:
          InputError: The ids are missing, or the array cannot be used.
        """
        with named_errors(path):
            self._x = NpyReader(lambda: _open(path), path.stat().st_size)
        if self._x.dtype.hasobject:
            raise InputError(f"{path}: is an object array; save np.stack(x).astype('float32')")
        if holds(self._x.dtype) != "float":
            shape = list(self._x.shape)
            raise InputError(
                f"{path}: holds {self._x.dtype} of shape {shape}; save x.astype('float32')"
            )
        self.open_ids(path, self._x.shape, options)

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        if len(self._x.shape) == 1:
            yield np.concatenate(list(self._x.blocks(0, self.dim, self.dim)))[None]
            return
        yield from self._x.blocks(start, stop, block_size)


def _open(path: Path) -> BufferedIOBase:
    return open(path, "rb")
