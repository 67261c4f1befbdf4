"""HDF5 files, read in another process.

A damaged file can crash the HDF5 library, or keep it busy for ever. It therefore runs in a process
with limits of memory and processor time (`hdf5_worker`). Uncompressed data in one piece
are read from the file itself, which is also faster.
"""

import atexit
import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.embedding_formats.arrays import Array, holds
from bridge_jax.data.embedding_formats.base import ReadOptions, check_unpacked
from bridge_jax.errors import InputError

_SLICE_BYTES = 16 << 20  # read at a time
_COMMAND = (
    "import sys; sys.path[:0] = sys.argv[1:]; "
    "from bridge_jax.data.embedding_formats.hdf5_worker import main; main()"
)


class Hdf5Object(NamedTuple):
    """A group, a dataset or a link of a file.

    Attributes:
      kind: `group`, `dataset` or `link`.
      name: Its path, without a slash at the start; empty for the root.
      attributes: Its attributes of interest.
      shape: Shape of a dataset; None if it has no data.
      dtype: Its dtype as text.
      is_text: Whether it holds text of any length.
      place: `contiguous`, `chunked`, `compact`, or `elsewhere` for data of other files.
      position: Position of the data, or of the first chunk, in the file; -1 if there is none.
      stored: Bytes that the data take in the file.
      chunk: Shape of a chunk; empty if the data are not chunked.
      num_chunks: Number of chunks in the file.
    """

    kind: str
    name: str
    attributes: Mapping[str, Any]
    shape: tuple[int, ...] | None = None
    dtype: str = "f4"
    is_text: bool = False
    place: str = ""
    position: int = -1
    stored: int = 0
    chunk: Sequence[int] = ()
    num_chunks: int = 0

    @property
    def array(self) -> Array:
        """Shape and content of a dataset."""
        return Array(self.shape or (), "id" if self.is_text else holds(np.dtype(self.dtype)))


class Hdf5File:
    """An HDF5 file.

    Attributes:
      path: Path of the file.
      objects: All its objects by name, the root first.
    """

    def __init__(self, path: Path) -> None:
        """Lists the objects.

        Raises:
          InputError: h5py is not installed, or the file is damaged.
        """
        if importlib.util.find_spec("h5py") is None:
            raise InputError(
                f"{path}: HDF5 needs h5py; install it with pip install 'bridge_jax[hdf5]'"
            )
        self.path, self._number = path, next(_numbers)
        self._absolute_path = str(path.absolute())  # the process keeps the folder of its start
        _, payload = self._request("list")
        self.objects: dict[str, Hdf5Object] = {}
        for kind, name, attributes, *rest in json.loads(payload):
            if rest:
                shape, *others = rest
                rest = [None if shape is None else tuple(shape), *others]
            self.objects[name] = Hdf5Object(kind, name, attributes, *rest)
        self._handle = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._handle).st_size
        weakref.finalize(self, _close, self._handle, self._number)

    def check(self, item: Hdf5Object, options: ReadOptions) -> None:
        """Refuses a dataset that claims more data than the file holds, or data of other files."""
        if item.place == "elsewhere":
            raise InputError(
                f"{self.path}: {item.name!r} lies in another file; write it into this one"
            )
        size = np.dtype(item.dtype).itemsize  # of text, that of a pointer to it
        values = 0 if item.shape is None else math.prod(item.shape)
        largest = max(values, math.prod(item.chunk) if item.chunk else 0)
        check_unpacked(self.path, repr(item.name), largest * size, item.stored, options)
        expected = math.prod(-(-n // c) for n, c in zip(item.shape or (), item.chunk, strict=False))
        if values and (not item.stored or (item.chunk and item.num_chunks != expected)):
            raise InputError(
                f"{self.path}: a part of {item.name!r} was never written; write the file again"
            )
        if values and item.place == "contiguous" and not np.dtype(item.dtype).hasobject:
            end = item.position + values * size
            if item.position < 0 or end > self._size or item.stored != values * size:
                raise InputError(f"{self.path}: the file ends within {item.name!r}")

    def read(self, item: Hdf5Object, start: int = 0, stop: int | None = None) -> Any:
        """Reads some rows of a dataset.

        Args:
          item: The dataset.
          start: First row.
          stop: Row after the last; default: the number of rows.

        Returns:
          An array of numbers; a list of text, or of bytes that are not UTF-8.

        Raises:
          ValueError: The file is damaged.
        """
        shape = item.shape
        if shape is None:
            raise ValueError(f"{item.name!r} has no data")
        dtype = np.dtype(item.dtype)
        rows = shape[0] if shape else 1
        stop = rows if stop is None else min(stop, rows)
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        if item.place == "contiguous" and item.stored and dtype.kind in "fiu":
            raw = _pread(
                self._handle, (stop - start) * row_bytes, item.position + start * row_bytes
            )
            return np.frombuffer(raw, dtype).reshape(stop - start, *shape[1:] if shape else ())
        step = max(_SLICE_BYTES // max(row_bytes, 1), 1)
        parts = [
            self._read_slice(item.name, first, min(first + step, stop))
            for first in range(start, stop, step)
        ]
        if parts and isinstance(parts[0], list):
            return [text for part in parts for text in part]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros((0, *shape[1:]), dtype)

    def children(self, group: str) -> list[str]:
        """Returns the names of the objects directly below a group."""
        start = f"{group}/"
        return [n for n in self.objects if n.startswith(start) and "/" not in n[len(start) :]]

    def _read_slice(self, name: str, start: int, stop: int) -> Any:
        header, payload = self._request("read", name=name, start=start, stop=stop)
        if header["dtype"] == "text":
            return [_bytes_unless_text(text) for text in json.loads(payload)]
        return np.frombuffer(payload, header["dtype"]).reshape(header["shape"])

    def _request(self, do: str, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        request = {"do": do, "file": self._number, "path": self._absolute_path, **arguments}
        header, payload = _worker().request(request)
        if "error" in header:
            raise ValueError(header["error"])
        return header, payload


def _bytes_unless_text(text: str) -> str | bytes:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def _pread(handle: int, size: int, position: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := os.pread(handle, size, position)):
        parts.append(part)
        size, position = size - len(part), position + len(part)
    if size:
        raise EOFError(f"the file ends {size:,} bytes too early")
    return b"".join(parts)


class _Worker:
    """A process with the HDF5 library; one serves all files, until one of them kills it."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[3])
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, root, *filter(None, sys.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        """Whether this process started it, and it can answer."""
        return self.owner == os.getpid() and self._process.poll() is None

    def request(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Sends a request and returns the header and the bytes of the answer.

        Raises:
          ValueError: The library crashed, or was stopped because it did not end.
        """
        with self._lock:
            try:
                while _unused:
                    self._send({"do": "close", "file": _unused.popleft()})
                self._send(request)
                if (line := self._stdout.readline()).endswith(b"\n"):
                    header = json.loads(line)
                    payload = self._stdout.read(header["bytes"])
                    if len(payload) == header["bytes"]:
                        return header, payload
            except BrokenPipeError:
                pass
            except BaseException:  # an interrupt, after which answers would be those of before
                self._process.kill()
                raise
            self._process.wait()
            raise ValueError("the HDF5 library crashed on it or did not end; it is damaged")

    def stop(self) -> None:
        """Ends the process."""
        if self.owner == os.getpid():
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait()
            self._stdout.close()

    @property
    def _stdout(self) -> Any:
        return self._process.stdout

    def _send(self, request: Mapping[str, Any]) -> None:
        stdin: Any = self._process.stdin
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()


_numbers = count()
_unused: deque[int] = deque()  # numbers of files that the process may close
_workers: list[_Worker] = []
_start = threading.Lock()


def _worker() -> _Worker:
    """Returns the process of the library; starts one if there is none."""
    with _start:
        if not _workers or not _workers[0].is_alive:
            _stop()
            _workers.append(_Worker())
        return _workers[0]


@atexit.register
def _stop() -> None:
    while _workers:
        _workers.pop().stop()


def _close(handle: int, number: int) -> None:
    """Closes a file; called by the garbage collector, so that nothing is sent here."""
    os.close(handle)
    _unused.append(number)
