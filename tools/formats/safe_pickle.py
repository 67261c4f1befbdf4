"""Reader of pickles of plain data, which refuses any pickle that could do more.

A pickle is a program: `pickle.load` runs any code that it contains. The reader here accepts
numbers, text, lists, tuples, dicts and NumPy arrays of plain numbers or text. It rebuilds arrays
itself, because NumPy trusts a pickle's statements about the memory of an array.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bridge_jax.errors import InputError

from .files import first_bytes

_PLAIN_DTYPE = re.compile(r"[biufcSU]\d+")
_REMEDIES = {
    "torch": "a PyTorch tensor; if you trust the file, load it with PyTorch, turn tensors into "
    "arrays with .cpu().numpy(), and pickle it again",
    "pandas": "a pandas object; if you trust the file, load it with pandas, turn columns into "
    "arrays with .to_numpy(), and pickle it again",
}
_DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError,
    OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def load(path: Path) -> Any:
    """Reads a pickle from a file.

    Args:
      path: The file.

    Returns:
      The data. An array is of a subclass of `np.ndarray`; its memory is a copy or a view of the
      bytes of the file.

    Raises:
      InputError: The file is missing, damaged or a Git LFS pointer, or contains more than data.
    """
    if first_bytes(path)[:2] == b"PK":
        raise InputError(f"{path}: a ZIP archive and no pickle, perhaps of torch.save or np.savez")
    return loads(path.read_bytes(), str(path))


def loads(data: bytes, where: str) -> Any:
    """Reads a pickle from memory.

    Args:
      data: Bytes of the pickle.
      where: Name for error messages, such as a path.

    Raises:
      InputError: The data is damaged or contains more than data.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except _RefusedError as e:
        raise InputError(f"{where}: {e}") from None
    except _DAMAGED as e:
        raise InputError(f"{where}: not a pickle of plain data, or damaged: {e}") from e


class _RefusedError(Exception):
    """The pickle contains something that is not data."""


class _Dtype:
    """Stand-in for `np.dtype`: built from a code such as `f4`; its state gives the byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusedError(
                f"holds an array of dtype {code!r}; only plain numbers and text are read"
            )
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, sub, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or (sub, names, fields) != (None, None, None):
            raise _RefusedError("holds an array of records; only plain numbers and text are read")
        self.value = self.value.newbyteorder(order)


class _Array(np.ndarray):
    """Array that checks its state before it passes it to NumPy."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        checked = _from_buffer(data, dtype, shape, "C")
        super().__setstate__((1, checked.shape, checked.dtype, bool(fortran), bytes(data)))  # type: ignore[arg-type]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _RefusedError("holds an array that is not of plain bytes")
    if order not in ("C", "F") or not all(type(n) is int and n >= 0 for n in shape):
        raise _RefusedError(f"holds an array of shape {shape!r} in order {order!r}")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise _RefusedError(f"holds {len(data)} bytes for an array {shape!r} of {dtype.value}")
    flat = np.frombuffer(data, dtype.value) if len(data) else np.zeros(0, dtype.value)
    return flat.reshape(shape, order=order).view(_Array)


def _reconstruct(*_: object) -> np.ndarray:
    return np.ndarray.__new__(_Array, 0, np.uint8)  # the pickle sets its state next


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_buffer(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand-in for `_codecs.encode`, by which old protocols store bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"encodes to {encoding!r}")
    return text.encode("latin1")


def _ndarray(*_: object) -> NoReturn:
    """Stand-in for `np.ndarray`, an argument of `_reconstruct` that is never called."""
    raise _RefusedError("builds an array in an unknown way")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }


class _Unpickler(pickle.Unpickler):
    """Unpickler that resolves only the names in `_ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (stand_in := _ALLOWED.get((module, name))) is not None:
            return stand_in
        if remedy := _REMEDIES.get(module.split(".")[0]):
            raise _RefusedError(f"holds {module}.{name}, {remedy}")
        raise _RefusedError(
            f"asks for {module}.{name}; only numbers, text, lists, tuples, dicts and NumPy arrays "
            "are read. Nothing of it was run; do not open it with pickle.load unless you trust it"
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError(f"holds a reference {str(pid)[:80]!r} to data elsewhere")
