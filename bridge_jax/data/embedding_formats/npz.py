"""NumPy archives: a matrix with ids, or one vector per id."""

import zipfile
from collections.abc import Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np

from bridge_jax.data.embedding_formats.arrays import Array, find_arrays, holds
from bridge_jax.data.embedding_formats.base import (
    EmbeddingBlock,
    EmbeddingFile,
    KeyedFile,
    MatrixFile,
    ReadOptions,
    check_unpacked,
    checked_shape,
    file_state,
    named_errors,
)
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.data.npy_reader import NpyReader
from bridge_jax.errors import InputError

_NAME_LENGTH = 26  # position within the header of a member
_DESCRIPTOR = 24  # at most so many bytes follow a member
_SPARSE = {"indices", "indptr", "format", "shape", "data"}


def open_npz(path: Path, options: ReadOptions) -> EmbeddingFile:
    """Opens an npz file.

    Args:
      path: The npz file: arrays `ids` and `x`, or other names that leave no doubt, or one vector
        under the name of each id.
      options: How the file is read.

    Raises:
      InputError: An array is missing or cannot be used.
    """
    archive = _Archive(path)
    with named_errors(path):
        readers = _readers(path, archive, options)
    if readers.keys() >= _SPARSE:
        raise InputError(
            f"{path}: is a sparse matrix of SciPy; save np.savez(file, ids=ids, x=x.toarray())"
        )
    arrays = {name: Array(r.shape, holds(r.dtype)) for name, r in readers.items()}
    names = find_arrays(path, arrays, options)
    if names.x:
        return NpzFile(path, readers[names.x], names.ids, readers.get(names.ids))
    return NpzKeyedFile(path, readers, archive, options)


class _Archive:
    """A zip file that is opened once for each member, or once for a `with` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> zipfile.ZipFile:
        self._zip = zipfile.ZipFile(self._path)
        return self._zip

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()
        self._zip = None

    def open(self, member: zipfile.ZipInfo) -> BufferedIOBase:
        return cast(BufferedIOBase, (self._zip or zipfile.ZipFile(self._path)).open(member))


class NpzKeyedFile(KeyedFile):
    """One vector under the name of each id."""

    def __init__(
        self, path: Path, readers: dict[str, NpyReader], archive: _Archive, options: ReadOptions
    ) -> None:
        """Checks the shapes.

        Args:
          path: The npz file.
          readers: Reader of each array by its id.
          archive: Archive of the readers.
          options: How the file is read.
        """
        ordered, self._archive = list(readers.values()), archive
        ids = as_ids(list(readers), str(path))
        super().__init__(
            path, ids, [r.shape for r in ordered], lambda i: _whole(ordered[i]), options
        )

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        with named_errors(self.path), self._archive:
            yield from super().blocks(start, stop, block_size, dim)


class NpzFile(MatrixFile):
    """One array of embeddings and one of ids."""

    def __init__(self, path: Path, x: NpyReader, ids_name: str, ids: NpyReader | None) -> None:
        """Checks the shapes.

        Args:
          path: The npz file.
          x: Embeddings.
          ids_name: Name of the array of ids.
          ids: The ids; None if there are none.
        """
        self.path, self._x, self._ids_name, self._ids = path, x, ids_name, ids
        shape = (1, *x.shape) if len(x.shape) == 1 else x.shape
        self.num_rows, self.dim = checked_shape(path, shape, ids.shape[0] if ids else shape[0])
        self.fingerprint = file_state(path)

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        with named_errors(self.path):
            if self._ids is None:
                for first in range(start, stop, block_size):
                    yield [str(i) for i in range(first, min(first + block_size, stop))]
                return
            for ids in self._ids.blocks(start, stop, block_size):
                yield as_ids(ids, f"{self.path}: {self._ids_name}")

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        if len(self._x.shape) == 1:
            yield _whole(self._x)[None]
            return
        yield from self._x.blocks(start, stop, block_size)


def _readers(path: Path, archive: _Archive, options: ReadOptions) -> dict[str, NpyReader]:
    readers: dict[str, NpyReader] = {}
    with archive as members:
        _check_complete(members)
        for member in members.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise InputError(f"{path}: {name!r} is not an array; it needs `ids` and `x`")
            if name in readers:
                raise InputError(f"{path}: two arrays are called {name!r}; keep one")
            check_unpacked(path, repr(name), member.file_size, member.compress_size, options)
            readers[name] = NpyReader(partial(archive.open, member), member.file_size)
    return readers


def _check_complete(archive: zipfile.ZipFile) -> None:
    """Checks that the list of members goes up to the last one, as one that is cut is read too.

    Raises:
      ValueError: There are data of another member after the last one.
    """
    last = max(archive.infolist(), key=lambda m: m.header_offset, default=None)
    stream = archive.fp
    end = 0
    if last is not None and stream is not None:
        stream.seek(last.header_offset + _NAME_LENGTH)
        name, extra = (int.from_bytes(stream.read(2), "little") for _ in range(2))
        end = last.header_offset + _NAME_LENGTH + 4 + name + extra + last.compress_size
    if archive.start_dir - end > _DESCRIPTOR:
        raise ValueError("its list of arrays is cut off")


def _whole(reader: NpyReader) -> np.ndarray:
    """Returns a whole array."""
    rows = reader.shape[0]
    blocks = list(reader.blocks(0, rows, max(rows, 1)))
    return blocks[0] if blocks else np.zeros(reader.shape, reader.dtype)
