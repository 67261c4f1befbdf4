"""Read a pickle that holds data, and refuse one that could do anything else.

A pickle is a program: opened with `pickle.load` it can run any code. The reader here knows numbers,
text, lists, tuples, dicts and NumPy arrays of plain numbers or text. It rebuilds arrays itself,
because NumPy trusts what a pickle says about an array's memory.
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

_PLAIN = re.compile(r"[biufcSU]\d+")
_REMEDIES = {
    "torch": "a PyTorch tensor; where you trust the file, load it with PyTorch, turn tensors into "
    "arrays with .cpu().numpy(), and pickle it again",
    "pandas": "a pandas object; where you trust the file, load it with pandas, turn columns into "
    "arrays with .to_numpy(), and pickle it again",
}
_BROKEN = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError,
    OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def load(path: Path) -> Any:
    """Read a pickle from disk.

    Args:
      path: the file.

    Returns:
      What it holds; an array is of a subclass of `np.ndarray`, and owns or borrows only bytes.

    Raises:
      InputError: the file is missing, a Git LFS pointer or damaged, or asks for anything but data.
    """
    if first_bytes(path)[:2] == b"PK":
        raise InputError(f"{path}: no pickle but a ZIP archive, perhaps of torch.save or np.savez")
    return loads(path.read_bytes(), str(path))


def loads(data: bytes, where: str) -> Any:
    """Read a pickle from memory.

    Args:
      data: its bytes.
      where: its name, for messages.

    Raises:
      InputError: see `load`.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused as e:
        raise InputError(f"{where}: {e}") from None
    except _BROKEN as e:
        raise InputError(f"{where}: not a pickle of plain data, or damaged: {e}") from e


class _Refused(Exception):
    """The pickle asks for something that is not data."""


class _Dtype:
    """A dtype as a pickle spells it: kind and size, then, as its state, the byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise _Refused(
                f"holds an array of dtype {code!r}; only plain numbers and text are read"
            )
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, sub, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or (sub, names, fields) != (None, None, None):
            raise _Refused("holds an array of records; only plain numbers and text are read")
        self.value = self.value.newbyteorder(order)


class _Array(np.ndarray):
    """An array that checks its state before NumPy believes it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        checked = _from_buffer(data, dtype, shape, "C")
        super().__setstate__((1, checked.shape, checked.dtype, bool(fortran), bytes(data)))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _Refused("holds an array that is not of plain bytes")
    if order not in ("C", "F") or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused(f"holds an array of shape {shape!r} in order {order!r}")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise _Refused(f"holds {len(data)} bytes for an array {shape!r} of {dtype.value}")
    flat = np.frombuffer(data, dtype.value) if len(data) else np.zeros(0, dtype.value)
    return flat.reshape(shape, order=order).view(_Array)


def _reconstruct(*_: object) -> np.ndarray:
    return np.ndarray.__new__(_Array, 0, np.uint8)  # its state follows


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_buffer(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """How old protocols spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"encodes to {encoding!r}")
    return text.encode("latin1")


def _ndarray(*_: object) -> NoReturn:
    """Stands for the class of the array, which `_reconstruct` is given and does not need."""
    raise _Refused("builds an array in an unknown way")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }


class _Unpickler(pickle.Unpickler):
    """Finds nothing but what is admitted."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := _ADMITTED.get((module, name))) is not None:
            return found
        if remedy := _REMEDIES.get(module.split(".")[0]):
            raise _Refused(f"holds {module}.{name}, {remedy}")
        raise _Refused(
            f"asks for {module}.{name}; only numbers, text, lists, tuples, dicts and NumPy arrays "
            "are read. Nothing of it was run; do not open it with pickle.load unless you trust it"
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused(f"holds a reference {str(pid)[:80]!r} to data elsewhere")
