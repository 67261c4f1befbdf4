"""Block-wise reading of an npy array from a file or a zip member."""

import io
import os
import tokenize
from collections.abc import Callable, Iterator

import numpy as np

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyReader:
    """Reads the rows of an npy array in blocks.

    Unlike `numpy.load(mmap_mode="r")` it also reads the compressed members of an npz file without
    loading them as a whole, unless their order is Fortran's.

    Attributes:
      shape: Shape of the array.
      dtype: Dtype as stored; the data of one with objects cannot be read.
    """

    def __init__(self, open_stream: Callable[[], io.BufferedIOBase], size: int) -> None:
        """Reads the header.

        Args:
          open_stream: Opens the npy data from its start, as a seekable stream. Called once for the
            header and once for each iteration.
          size: Number of bytes of the npy data.

        Raises:
          ValueError: The header is damaged, or the npy version is unknown.
          EOFError: There are fewer data than the header claims.
        """
        self._open_stream = open_stream
        with open_stream() as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADER_READERS:
                raise ValueError(f"npy version {version}; save it again with numpy.save")
            try:
                self.shape, fortran_order, self.dtype = _HEADER_READERS[version](stream)
            except (SyntaxError, tokenize.TokenError, TypeError, MemoryError) as e:
                raise ValueError("its npy header is damaged") from e
            self._data_start = stream.tell()
        self._is_fortran = fortran_order and len(self.shape) > 1
        self._columns: np.ndarray | None = None
        if any(n < 0 for n in self.shape):
            raise ValueError(f"an array of shape {self.shape}")
        self.num_bytes = self.dtype.itemsize
        for n in self.shape:
            self.num_bytes *= n
        if not self.dtype.hasobject and self._data_start + self.num_bytes > size:
            row = (size - self._data_start) // max(self._row_bytes(), 1)
            raise EOFError(
                f"its header claims {self.num_bytes:,} bytes of data but the file ends within row "
                f"{row}"
            )

    def blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        """Reads some rows in blocks.

        Args:
          start: First row.
          stop: Row after the last.
          block_size: Number of rows in a block; the last block may have fewer.

        Yields:
          Arrays `[rows, …]` in the stored dtype.

        Raises:
          ValueError: The array holds objects.
          EOFError: The data end before row `stop`.
        """
        if self.dtype.hasobject:
            raise ValueError("an object array; save it as text or float32")
        if self._is_fortran:
            yield from self._fortran_blocks(start, stop, block_size)
            return
        row_bytes = self._row_bytes()
        with self._open_stream() as stream:
            stream.seek(self._data_start + start * row_bytes)
            for first in range(start, stop, block_size):
                count = min(block_size, stop - first)
                raw = stream.read(count * row_bytes)
                if len(raw) != count * row_bytes:
                    row = first + len(raw) // max(row_bytes, 1)
                    raise EOFError(f"the file ends within row {row}")
                yield np.frombuffer(raw, self.dtype).reshape(count, *self.shape[1:])

    def _fortran_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        """Reads the columns of each block from a file, and loads a zip member as a whole.

        A map of the file would kill the process (SIGBUS) if the file is cut while it is read.
        """
        with self._open_stream() as stream:
            if isinstance(stream, io.BufferedReader):
                for first in range(start, stop, block_size):
                    count = min(block_size, stop - first)
                    yield self._read_columns(stream.fileno(), first, count)
                return
            if self._columns is None:
                stream.seek(self._data_start)
                raw = stream.read(self.num_bytes)
                if len(raw) != self.num_bytes:
                    raise EOFError(f"the file ends after {len(raw):,} of {self.num_bytes:,} bytes")
                self._columns = np.frombuffer(raw, self.dtype).reshape(self.shape, order="F")
        for first in range(start, stop, block_size):
            yield np.ascontiguousarray(self._columns[first : min(first + block_size, stop)])

    def _read_columns(self, handle: int, first: int, count: int) -> np.ndarray:
        size = self.dtype.itemsize
        out = np.empty((self._row_bytes() // size, count), self.dtype)
        for j, column in enumerate(out.view(np.uint8)):
            position = self._data_start + (j * self.shape[0] + first) * size
            if os.preadv(handle, [column.data], position) != count * size:
                raise EOFError(f"the file ends within column {j}")
        return np.ascontiguousarray(out.T.reshape((count, *self.shape[1:]), order="F"))

    def _row_bytes(self) -> int:
        """Returns the bytes of one row."""
        row_bytes = self.dtype.itemsize
        for n in self.shape[1:]:
            row_bytes *= n
        return row_bytes
