"""Block-wise reading of an npy array from a file or a zip member."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyReader:
    """Reads the rows of an npy array in blocks.

    Unlike `numpy.load(mmap_mode="r")` it also reads the compressed members of an npz file without
    loading them as a whole.

    Attributes:
      shape: Shape of the array.
      dtype: Dtype as stored.
    """

    def __init__(self, open_stream: Callable[[], BinaryIO]) -> None:
        """Reads the header.

        Args:
          open_stream: Opens the npy data from its start, as a seekable stream. Called once for the
            header and once for each iteration.

        Raises:
          ValueError: The array has objects, Fortran order or an unknown npy version.
        """
        self._open_stream = open_stream
        with open_stream() as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADER_READERS:
                raise ValueError(f"npy version {version}; save it again with numpy.save")
            self.shape, fortran_order, self.dtype = _HEADER_READERS[version](stream)
            self._data_start = stream.tell()
        if self.dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        if fortran_order and len(self.shape) > 1:
            raise ValueError("it is stored in Fortran order; save numpy.ascontiguousarray(x)")

    def blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        """Reads some rows in blocks.

        Args:
          start: First row.
          stop: Row after the last.
          block_size: Number of rows in a block; the last block may have fewer.

        Yields:
          Arrays `[rows, …]` in the stored dtype.

        Raises:
          EOFError: The data end before row `stop`.
        """
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        with self._open_stream() as stream:
            stream.seek(self._data_start + start * row_bytes)
            for first in range(start, stop, block_size):
                count = min(block_size, stop - first)
                raw = stream.read(count * row_bytes)
                if len(raw) != count * row_bytes:
                    row = first + len(raw) // max(row_bytes, 1)
                    raise EOFError(f"the file ends within row {row}")
                yield np.frombuffer(raw, self.dtype).reshape(count, *self.shape[1:])
