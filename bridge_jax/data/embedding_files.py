"""Files of vectors with ids, read a block at a time: project shards, npy + ids, npz, parquet.

Nothing but the present block is in memory, so that a file may be larger than the machine.
"""

import json
import sys
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from bridge_jax.data.dataset import (
    NodeTable,
    decode_ids,
    file_name,
    node_table_from_json,
)
from bridge_jax.data.tfrecord import DTYPES, Shard, stream_shard
from bridge_jax.errors import InputError, unknown

SUFFIXES = (".npz", ".npy", ".parquet")
_LINES = 1 << 16  # ids looked at together


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a damaged file can raise into an `InputError` that names it."""
    arrow = getattr(sys.modules.get("pyarrow"), "ArrowException", ValueError)
    try:
        yield
    except InputError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, arrow) as e:
        raise InputError(f"{path}: cannot be read: {' '.join(str(e).split())}") from e


class Block(NamedTuple):
    """Some rows of a file.

    Attributes:
      first: number of the first row in its file.
      ids: one a row.
      x: `[n, dim]`, float16, bfloat16 or float32; a row with a fault may hold anything.
      faults: row of the block to why it cannot be used.
    """

    first: int
    ids: list[str]
    x: np.ndarray
    faults: dict[int, str]


class VectorFile(ABC):
    """One file of vectors.

    Attributes:
      path: of the file.
      rows: how many.
      dim: of each; 0 where they may differ.
      checked: whether the ids are known to be sound and distinct.
      identity: JSON values that change when the content does.
    """

    path: Path
    rows: int
    dim: int
    checked: bool
    identity: list[Any]

    @abstractmethod
    def ids(self) -> Iterator[list[str]]:
        """All ids, in lists."""

    @abstractmethod
    def blocks(self, start: int, stop: int, size: int, dim: int) -> Iterator[Block]:
        """Rows `start` to `stop`, `size` at a time.

        Args:
          start: the first row.
          stop: one past the last.
          size: rows a block; the last may hold fewer.
          dim: what a row should have, where they may differ.
        """


class ShardFile(VectorFile):
    """One shard of a node type; see `VectorFile`."""

    checked = True

    def __init__(self, root: Path, table: NodeTable, shard: Shard) -> None:
        """Take a shard as its table lists it."""
        self._root, self._table, self._shard = root, table, shard
        self.path, self.rows, self.dim = root / shard.file, shard.records, table.dim
        self.id_bytes = table.id_bytes
        self.identity = [shard.file, shard.records, shard.sha256]

    def ids(self) -> Iterator[list[str]]:
        """See `VectorFile`."""
        return (block.ids for block in self.blocks(0, self.rows, _LINES, self.dim))

    def blocks(self, start: int, stop: int, size: int, dim: int) -> Iterator[Block]:
        """See `VectorFile`; a shard is read as a whole, since its checksum is."""
        first = 0
        for columns in stream_shard(self._root, self._shard, self._table.layout, size):
            with readable(self.path):
                ids = decode_ids(columns["id"])
            x = np.ascontiguousarray(columns["embedding"]).view(DTYPES[self._table.dtype])
            yield Block(first, ids, x, {})
            first += len(ids)


class NpyFile(VectorFile):
    """`<name>.npy` beside `<name>.ids.txt`, one id a line; see `VectorFile`."""

    checked = False

    def __init__(self, path: Path) -> None:
        """Read the header and count the lines."""
        self.path, self._names = path, path.with_suffix(".ids.txt")
        if not self._names.is_file():
            raise InputError(f"{path}: {self._names.name} is missing; it holds one id a line")
        with readable(path):
            self._x = NpyStream(self._opened)
        lines, at = 0, 0
        self._starts = []  # where every `_LINES`-th line begins
        with open(self._names, "rb") as handle:
            for line in handle:
                if lines % _LINES == 0:
                    self._starts.append(at)
                lines, at = lines + 1, at + len(line)
        self.rows, self.dim = _shape(path, self._x.shape, lines)
        self.identity = [*_stamp(path), *_stamp(self._names)]

    def _opened(self) -> BinaryIO:
        return open(self.path, "rb")

    def ids(self) -> Iterator[list[str]]:
        """See `VectorFile`."""
        return self._ids(0, self.rows, _LINES)

    def _ids(self, start: int, stop: int, size: int) -> Iterator[list[str]]:
        with readable(self._names), open(self._names, "rb") as handle:
            handle.seek(self._starts[start // _LINES] if self._starts else 0)
            for _ in range(start % _LINES):
                next(handle)
            for first in range(start, stop, size):
                count = min(size, stop - first)
                yield [next(handle).decode().strip() for _ in range(count)]

    def blocks(self, start: int, stop: int, size: int, dim: int) -> Iterator[Block]:
        """See `VectorFile`."""
        ids, x = self._ids(start, stop, size), self._x.rows(start, stop, size)
        with readable(self.path):
            for first in range(start, stop, size):
                yield Block(first, next(ids), _floats(next(x)), {})


class NpzFile(VectorFile):
    """A `.npz` with the arrays `ids` and `x`; see `VectorFile`."""

    checked = False

    def __init__(self, path: Path) -> None:
        """Read both headers."""
        self.path = path
        with readable(path):
            with zipfile.ZipFile(path) as archive:
                missing = sorted({"ids.npy", "x.npy"} - set(archive.namelist()))
            if missing:
                name = missing[0].removesuffix(".npy")
                raise InputError(f"{path}: no array {name!r}; it needs `ids` and `x`")
            self._names, self._x = NpyStream(self._member("ids")), NpyStream(self._member("x"))
        if self._names.dtype.kind not in "SUiu":
            raise InputError(f"{path}: ids must be text or whole numbers, not {self._names.dtype}")
        if len(self._names.shape) != 1:
            raise InputError(f"{path}: ids of shape {self._names.shape}; they must be one a row")
        self.rows, self.dim = _shape(path, self._x.shape, self._names.shape[0])
        self.identity = _stamp(path)

    def _member(self, name: str) -> Callable[[], BinaryIO]:
        return lambda: cast(BinaryIO, zipfile.ZipFile(self.path).open(f"{name}.npy"))

    def ids(self) -> Iterator[list[str]]:
        """See `VectorFile`."""
        with readable(self.path):
            yield from map(_texts, self._names.rows(0, self.rows, _LINES))

    def blocks(self, start: int, stop: int, size: int, dim: int) -> Iterator[Block]:
        """See `VectorFile`."""
        ids, x = self._names.rows(start, stop, size), self._x.rows(start, stop, size)
        with readable(self.path):
            for first in range(start, stop, size):
                yield Block(first, _texts(next(ids)), _floats(next(x)), {})


class ParquetFile(VectorFile):
    """A parquet file with the columns `id` and `embedding`; see `VectorFile`."""

    checked = False

    def __init__(self, path: Path) -> None:
        """Read the schema."""
        pq = need_parquet()
        self.path = path
        with readable(path):
            self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        for name in ("id", "embedding"):
            if name not in schema.names:
                raise unknown("column", name, schema.names, str(path))
        kind = schema.field("embedding").type
        inner = str(getattr(kind, "value_type", kind))
        if inner not in ("halffloat", "float", "double"):
            raise InputError(f"{path}: embeddings must be lists of floats, not {kind}")
        self.rows = int(self._file.metadata.num_rows)
        self.dim = max(getattr(kind, "list_size", 0), 0)
        self.identity = _stamp(path)

    def first_length(self) -> int:
        """The length of the first embedding, where the schema does not fix it."""
        for batch in self._file.iter_batches(1, columns=["embedding"]):
            return len(batch["embedding"][0].as_py() or ())
        return 0

    def ids(self) -> Iterator[list[str]]:
        """See `VectorFile`."""
        with readable(self.path):
            for batch in self._file.iter_batches(_LINES, columns=["id"]):
                yield [_text(i) for i in batch["id"].to_pylist()]

    def blocks(self, start: int, stop: int, size: int, dim: int) -> Iterator[Block]:
        """See `VectorFile`; blocks end where row groups do."""
        at, groups, first = 0, [], None
        for k in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(k).num_rows
            if at < stop and at + rows > start:
                groups.append(k)
                first = at if first is None else first
            at += rows
        with readable(self.path):
            at = first or 0
            columns = ["id", "embedding"]
            for batch in self._file.iter_batches(size, row_groups=groups, columns=columns):
                low, high = max(start - at, 0), min(stop - at, len(batch))
                if low < high:
                    part = batch.slice(low, high - low)
                    x, faults = _lists(part["embedding"], dim)
                    ids = [_text(i) for i in part["id"].to_pylist()]
                    yield Block(at + low, ids, x, faults)
                at += len(batch)


_KINDS: dict[str, type[NpyFile] | type[NpzFile] | type[ParquetFile]] = {
    ".npy": NpyFile,
    ".npz": NpzFile,
    ".parquet": ParquetFile,
}


def open_vectors(path: Path) -> VectorFile:
    """Open a `.npz`, `.npy` (+ `.ids.txt`) or `.parquet` file.

    Raises:
      InputError: another kind of file, a part of it is missing, or it cannot be read.
    """
    if path.suffix == ".tfrecord":
        raise InputError(
            f"{path}: a shard alone does not tell its type; give the folder that lists it"
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: not a file of embeddings; expected {', '.join(SUFFIXES)}")
    return _KINDS[path.suffix](path)


class NpyStream:
    """An array in npy form, read some rows at a time.

    Attributes:
      shape: of the whole.
      dtype: as stored.
    """

    def __init__(self, opener: Callable[[], BinaryIO]) -> None:
        """Read the header.

        Args:
          opener: opens the stream anew; it must be seekable.
        """
        self._open = opener
        with opener() as handle:
            version = np.lib.format.read_magic(handle)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy version {version}; save it again with numpy.save")
            form = np.lib.format
            read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
            self.shape, columns_first, self.dtype = read(handle)
            self._start = handle.tell()
        if self.dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        if columns_first and len(self.shape) > 1:
            raise ValueError("its columns are stored first; save numpy.ascontiguousarray(x)")

    def rows(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """Rows `start` to `stop`, `size` at a time, as they are stored."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        with self._open() as handle:
            handle.seek(self._start + start * row)
            for first in range(start, stop, size):
                count = min(size, stop - first)
                raw = handle.read(count * row)
                if len(raw) != count * row:
                    raise EOFError(f"it ends within row {first + len(raw) // max(row, 1)}")
                yield np.frombuffer(raw, self.dtype).reshape(count, *self.shape[1:])


def _shape(path: Path, shape: tuple[int, ...], ids: int) -> tuple[int, int]:
    if len(shape) != 2 or shape[0] != ids:
        raise InputError(f"{path}: {ids} ids but embeddings of shape {shape}")
    return shape


def _stamp(path: Path) -> list[Any]:
    about = path.stat()
    return [path.name, about.st_size, about.st_mtime_ns]


def _texts(ids: np.ndarray) -> list[str]:
    """Ids as they were meant: text, bytes of UTF-8, or whole numbers."""
    return [_text(i) for i in ids.tolist()]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _floats(x: np.ndarray) -> np.ndarray:
    """Native byte order; float64 as float32."""
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype == np.float64:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
    if x.dtype not in (np.float32, np.float16):
        raise ValueError(f"embeddings of {x.dtype}; expected float32, float16 or float64")
    return x


def _lists(column: Any, dim: int) -> tuple[np.ndarray, dict[int, str]]:
    """A parquet column of lists as `[n, dim]`; rows of another length are faults."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    if (lengths == dim).all():
        flat = _floats(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(-1, dim), {}
    kind = "float16" if str(column.type.value_type) == "halffloat" else "float32"
    x, faults = np.zeros((len(column), dim), kind), {}
    for i, length in enumerate(lengths.tolist()):
        if length == dim:
            x[i] = _floats(column[i].values.to_numpy(zero_copy_only=False))
        else:
            faults[i] = "no vector" if length < 0 else f"dimension {length} where {dim} is needed"
    return x, faults


def need_parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise InputError("parquet needs pyarrow; install it with pip install pyarrow") from e
    return pq


# BioBridge names its feature files by the first word of the type.
_SHORT = {
    "biological": "biological_process",
    "cellular": "cellular_component",
    "molecular": "molecular_function",
}


def matches(stem: str, node_type: str) -> bool:
    """Whether a file stem names a node type: `protein` and `gene_protein` name `gene/protein`."""
    stem = _SHORT.get(stem, stem)
    return stem in (node_type, file_name(node_type), node_type.split("/")[-1])


def read_sidecar(path: Path) -> tuple[NodeTable, str]:
    """The table that `nodes/<type>.json` describes, and the column that its ids are of.

    Raises:
      InputError: it cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
        id_column = str(value.pop("id_column", "node_id"))
        return node_table_from_json(value), id_column
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: cannot be read: {e!r}; export the type again") from e
