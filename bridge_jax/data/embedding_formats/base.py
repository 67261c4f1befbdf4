"""Protocol of the readers of embedding files."""

import math
import sys
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.encoder_spec import EncoderSpec
from bridge_jax.errors import InputError

ID_BLOCK = 1 << 16  # ids read at a time
MAX_RATIO = 200  # a larger ratio of unpacked to stored bytes is no file of embeddings
_GIB = 2**30
_DAMAGE = (
    ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError, KeyError, TypeError, IndexError, StopIteration,
)  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read if its content alone does not decide.

    Attributes:
      pool: `mean` to average matrices with one row per residue; empty to refuse them.
      layer: Layer of an ESM output; default: the only one.
      key: Name of the array, dataset, tensor or column that holds the embeddings; default: found.
      id_key: Name of the array, dataset, tensor or column that holds the ids; default: found.
      max_unpacked: GiB to which an array may unpack that has more than `MAX_RATIO` times its stored
        size.
      needs_ids: Whether embeddings without ids are refused; else their row number is the id.
    """

    pool: str = ""
    layer: int | None = None
    key: str = ""
    id_key: str = ""
    max_unpacked: float = 1.0
    needs_ids: bool = True


DEFAULT = ReadOptions()


class EmbeddingBlock(NamedTuple):
    """Consecutive rows of an embedding file.

    Attributes:
      first_row: Number of the first row within the file.
      ids: Id of each row.
      x: Embeddings `[n, dim]`, float16, bfloat16 or float32. The values of a row with a fault are
        arbitrary.
      faults: Why a row cannot be used, by row within the block.
    """

    first_row: int
    ids: list[str]
    x: np.ndarray
    faults: dict[int, str]


class EmbeddingFile(ABC):
    """One file of embeddings with ids.

    Attributes:
      path: Path of the file.
      num_rows: Number of rows.
      dim: Dimension of the embeddings; 0 if rows may have different lengths.
      has_checked_ids: Whether the ids were checked when the file was written: all are distinct,
        printable and not empty.
      fingerprint: JSON values that change when the content changes.
      notices: Oddities that cost no row.
      encoder_spec: How the embeddings were made; None if that is not recorded.
    """

    path: Path
    num_rows: int
    dim: int
    has_checked_ids: bool = False
    fingerprint: list[Any]
    notices: Sequence[str] = ()
    encoder_spec: EncoderSpec | None = None

    @abstractmethod
    def ids(self) -> Iterator[list[str]]:
        """Yields all ids in lists of bounded length."""

    @abstractmethod
    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        """Reads some rows in blocks.

        Args:
          start: First row.
          stop: Row after the last.
          block_size: Largest number of rows in a block.
          dim: Required dimension; used only if rows may have different lengths.

        Yields:
          Blocks in the order of the file.

        Raises:
          InputError: The file is damaged.
        """

    def first_dim(self) -> int:
        """Returns the dimension of the first embedding; 0 if there is none."""
        return self.dim


class MatrixFile(EmbeddingFile):
    """One matrix with an id per row."""

    @abstractmethod
    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        """Yields the ids of some rows."""

    @abstractmethod
    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        """Yields some rows of the matrix."""

    def ids(self) -> Iterator[list[str]]:
        return self.id_blocks(0, self.num_rows, ID_BLOCK)

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        ids = self.id_blocks(start, stop, block_size)
        x = self.x_blocks(start, stop, block_size)
        with named_errors(self.path):
            for first_row in range(start, stop, block_size):
                yield EmbeddingBlock(first_row, next(ids), *as_float(next(x)))


class KeyedFile(EmbeddingFile):
    """One vector, or one matrix with a row per residue, under the name of each id.

    Args:
      path: Path of the file.
      ids: Id of each row.
      shapes: Shape of each array.
      read: Reads the array with a number.
      options: How the file is read.
    """

    def __init__(
        self,
        path: Path,
        ids: list[str],
        shapes: Sequence[tuple[int, ...]],
        read: Callable[[int], np.ndarray],
        options: ReadOptions,
    ) -> None:
        self.path, self._ids, self._read = path, ids, read
        for i, shape in enumerate(shapes):
            check_vector_shape(path, ids[i], shape, options)
        self.num_rows, self.dim = len(ids), shapes[0][-1] if shapes else 0
        self.fingerprint = file_state(path)

    def ids(self) -> Iterator[list[str]]:
        for start in range(0, self.num_rows, ID_BLOCK):
            yield self._ids[start : start + ID_BLOCK]

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        with named_errors(self.path):
            for first_row in range(start, stop, block_size):
                rows = range(first_row, min(first_row + block_size, stop))
                x, faults = stack_vectors([pooled(self._read(i)) for i in rows], dim or self.dim)
                yield EmbeddingBlock(first_row, self._ids[rows.start : rows.stop], x, faults)


def check_vector_shape(path: Path, name: str, shape: tuple[int, ...], options: ReadOptions) -> None:
    """Raises an error if an array is neither a vector nor a matrix that may be pooled."""
    if len(shape) == 1 or (len(shape) == 2 and (shape[0] == 1 or options.pool)):
        return
    if len(shape) == 2:
        raise InputError(
            f"{path}: {name!r} has shape {shape}, one row per residue; pass --pool mean to average "
            "them"
        )
    raise InputError(f"{path}: {name!r} has shape {shape}; expected one vector per id")


def pooled(x: np.ndarray) -> np.ndarray:
    """Returns a vector as it is, and the mean of the rows of a matrix as float32."""
    if x.ndim == 1 or len(x) == 1:
        return x.reshape(-1)
    with np.errstate(all="ignore"):
        return np.asarray(x, np.float64).mean(axis=0) if len(x) else np.full(x.shape[1], np.nan)


def stack_vectors(
    vectors: Sequence[np.ndarray | None], dim: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Stacks vectors to `[n, dim]`; those of another length are faults."""
    wrong: dict[int, str] = {}
    rows: list[np.ndarray] = []
    for i, vector in enumerate(vectors):
        if vector is None or len(vector) != dim:
            length = "no vector" if vector is None else f"dimension {len(vector)}"
            wrong[i] = length if vector is None else f"{length} where {dim} is needed"
            vector = np.zeros(dim, np.float16)
        rows.append(vector)
    x, faults = as_float(np.stack(rows) if rows else np.zeros((0, dim), np.float32))
    return x, faults | wrong


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns the errors that a damaged file can raise into an `InputError` that names the file."""
    try:
        yield
    except InputError as e:
        if str(e).isprintable():
            raise
        raise InputError(one_line(str(e), 1000)) from e
    except MemoryError as e:
        raise InputError(f"{path}: does not fit into the memory of this machine") from e
    except Exception as e:
        # The libraries are looked up now, as they are imported within the block.
        arrow_error = getattr(sys.modules.get("pyarrow"), "ArrowException", ValueError)
        safetensors_error = getattr(sys.modules.get("safetensors"), "SafetensorError", ValueError)
        if not isinstance(e, (*_DAMAGE, arrow_error, safetensors_error)):
            raise
        reason = " ".join(str(e).split()) or type(e).__name__
        raise InputError(f"{path}: cannot be read: {one_line(reason)}") from e


def one_line(text: str, limit: int = 200) -> str:
    """Returns text without control characters, cut to a length."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def checked_shape(path: Path, shape: tuple[int, ...], num_ids: int) -> tuple[int, int]:
    """Returns the shape of a matrix of embeddings.

    Raises:
      InputError: It is not `[num_ids, dim]`, or dim is 0.
    """
    if len(shape) != 2 or shape[0] != num_ids or (shape[0] and not shape[1]):
        raise InputError(f"{path}: {num_ids} ids but embeddings of shape {tuple(shape)}")
    return shape[0], shape[1]


def check_unpacked(path: Path, name: str, unpacked: int, stored: int, options: ReadOptions) -> None:
    """Refuses an array that would unpack to far more than any embeddings do.

    Args:
      path: File that holds the array.
      name: Name of the array, for the message.
      unpacked: Bytes of the array.
      stored: Bytes that it occupies in the file.
      options: Its `max_unpacked` is the limit.

    Raises:
      InputError: The array exceeds both `MAX_RATIO` and the limit.
    """
    if unpacked > options.max_unpacked * _GIB and unpacked > MAX_RATIO * max(stored, 1):
        needed = math.ceil(unpacked / _GIB)
        raise InputError(
            f"{path}: {name} unpacks from {stored:,} to {unpacked:,} bytes, more than {MAX_RATIO} "
            f"times; if that is right, pass --max-unpacked {needed} (GiB)"
        )


def file_state(path: Path) -> list[Any]:
    """Returns name, size and time of change of a file."""
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def as_float(x: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    """Converts to native byte order, and wider floats to float32.

    Args:
      x: Floats `[n, dim]`.

    Returns:
      The embeddings, and the rows with a finite value that became infinite.

    Raises:
      ValueError: The array does not hold floats.
    """
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype.name == "bfloat16":
        return x, {}
    if x.dtype.kind != "f":
        raise ValueError(f"embeddings of {x.dtype}; expected float32, float16 or float64")
    if x.dtype in (np.float32, np.float16):
        return x, {}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = x.astype(np.float32)
    overflown = np.isinf(narrow) & np.isfinite(x)
    faults = {}
    for i in np.flatnonzero(overflown.any(axis=1)).tolist():
        value = x[i][overflown[i]][0]
        faults[i] = f"the value {value:.3g}, which is infinite as float32"
    return narrow, faults


def skip_and_group(
    items: Iterator[Any], start: int, stop: int, block_size: int
) -> Iterator[list[Any]]:
    """Yields items `start` to `stop` of an iterator in lists of `block_size`."""
    items = islice(items, start, stop)
    for first in range(start, stop, block_size):
        block = list(islice(items, min(block_size, stop - first)))
        if len(block) != min(block_size, stop - first):
            raise EOFError(f"the file ends within row {first + len(block)}")
        yield block
