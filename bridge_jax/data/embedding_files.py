"""Files of embeddings with ids, read in blocks: shards, npy with ids, npz and parquet.

Only the current block is in memory, so a file may be larger than the memory of the machine.
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

from bridge_jax.data.dataset import decode_ids
from bridge_jax.data.manifest import NodeTable, file_name, node_table_from_json
from bridge_jax.data.npy_reader import NpyReader
from bridge_jax.data.tfrecord import DTYPES, Shard, stream_shard
from bridge_jax.errors import InputError, unknown

SUFFIXES = (".npz", ".npy", ".parquet")
_ID_BLOCK = 1 << 16  # ids read at a time


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
    """

    path: Path
    num_rows: int
    dim: int
    has_checked_ids: bool
    fingerprint: list[Any]

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


class ShardFile(EmbeddingFile):
    """One TFRecord shard of a node type."""

    has_checked_ids = True

    def __init__(self, root: Path, table: NodeTable, shard: Shard) -> None:
        """Reads nothing yet.

        Args:
          root: Dataset directory, or output folder of an export or a projection.
          table: Manifest entry or sidecar that lists the shard.
          shard: The shard.
        """
        self._root, self._table, self._shard = root, table, shard
        self.path, self.num_rows, self.dim = root / shard.file, shard.records, table.dim
        self.id_bytes = table.id_bytes
        self.fingerprint = [shard.file, shard.records, shard.sha256]

    def ids(self) -> Iterator[list[str]]:
        return (block.ids for block in self.blocks(0, self.num_rows, _ID_BLOCK, self.dim))

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        """Reads all rows in blocks; a shard cannot be read in part, because its checksum cannot."""
        first_row = 0
        for columns in stream_shard(self._root, self._shard, self._table.layout, block_size):
            with _named_errors(self.path):
                ids = decode_ids(columns["id"])
            x = np.ascontiguousarray(columns["embedding"]).view(DTYPES[self._table.dtype])
            yield EmbeddingBlock(first_row, ids, x, {})
            first_row += len(ids)


class NpyFile(EmbeddingFile):
    """Embeddings in `<name>.npy` with ids in `<name>.ids.txt`, one id per line."""

    has_checked_ids = False

    def __init__(self, path: Path) -> None:
        """Reads the header of the array and counts the ids.

        Args:
          path: The npy file.

        Raises:
          InputError: The ids are missing, or the array cannot be used.
        """
        self.path, self._ids_path = path, path.with_suffix(".ids.txt")
        if not self._ids_path.is_file():
            raise InputError(f"{path}: {self._ids_path.name} is missing; it holds one id per line")
        with _named_errors(path):
            self._x = NpyReader(self._open_array)
        num_ids, position = 0, 0
        self._id_positions = []  # byte position of every `_ID_BLOCK`-th line
        with open(self._ids_path, "rb") as handle:
            for line in handle:
                if num_ids % _ID_BLOCK == 0:
                    self._id_positions.append(position)
                num_ids, position = num_ids + 1, position + len(line)
        self.num_rows, self.dim = _checked_shape(path, self._x.shape, num_ids)
        self.fingerprint = [*_file_state(path), *_file_state(self._ids_path)]

    def ids(self) -> Iterator[list[str]]:
        return self._id_blocks(0, self.num_rows, _ID_BLOCK)

    def _open_array(self) -> BinaryIO:
        return open(self.path, "rb")

    def _id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        with _named_errors(self._ids_path), open(self._ids_path, "rb") as handle:
            handle.seek(self._id_positions[start // _ID_BLOCK] if self._id_positions else 0)
            for _ in range(start % _ID_BLOCK):
                next(handle)
            for first_row in range(start, stop, block_size):
                count = min(block_size, stop - first_row)
                yield [next(handle).decode().strip() for _ in range(count)]

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        ids = self._id_blocks(start, stop, block_size)
        x = self._x.blocks(start, stop, block_size)
        with _named_errors(self.path):
            for first_row in range(start, stop, block_size):
                yield EmbeddingBlock(first_row, next(ids), _as_float(next(x)), {})


class NpzFile(EmbeddingFile):
    """Embeddings in the array `x` of an npz file, with ids in the array `ids`."""

    has_checked_ids = False

    def __init__(self, path: Path) -> None:
        """Reads the headers of both arrays.

        Args:
          path: The npz file.

        Raises:
          InputError: An array is missing or cannot be used.
        """
        self.path = path
        with _named_errors(path):
            with zipfile.ZipFile(path) as archive:
                missing = sorted({"ids.npy", "x.npy"} - set(archive.namelist()))
            if missing:
                name = missing[0].removesuffix(".npy")
                raise InputError(f"{path}: no array {name!r}; it needs `ids` and `x`")
            self._ids, self._x = NpyReader(self._opener("ids")), NpyReader(self._opener("x"))
        if self._ids.dtype.kind not in "SUiu":
            raise InputError(f"{path}: ids must be text or whole numbers, not {self._ids.dtype}")
        if len(self._ids.shape) != 1:
            raise InputError(f"{path}: ids of shape {self._ids.shape}; they must be one per row")
        self.num_rows, self.dim = _checked_shape(path, self._x.shape, self._ids.shape[0])
        self.fingerprint = _file_state(path)

    def _opener(self, name: str) -> Callable[[], BinaryIO]:
        return lambda: cast(BinaryIO, zipfile.ZipFile(self.path).open(f"{name}.npy"))

    def ids(self) -> Iterator[list[str]]:
        with _named_errors(self.path):
            for ids in self._ids.blocks(0, self.num_rows, _ID_BLOCK):
                yield [_as_text(i) for i in ids.tolist()]

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        id_blocks = self._ids.blocks(start, stop, block_size)
        x = self._x.blocks(start, stop, block_size)
        with _named_errors(self.path):
            for first_row in range(start, stop, block_size):
                ids = [_as_text(i) for i in next(id_blocks).tolist()]
                yield EmbeddingBlock(first_row, ids, _as_float(next(x)), {})


class ParquetFile(EmbeddingFile):
    """Embeddings in the column `embedding` of a parquet file, with ids in the column `id`."""

    has_checked_ids = False

    def __init__(self, path: Path) -> None:
        """Reads the schema.

        Args:
          path: The parquet file.

        Raises:
          InputError: pyarrow is not installed, or a column is missing or has the wrong type.
        """
        pq = import_parquet()
        self.path = path
        with _named_errors(path):
            self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        for name in ("id", "embedding"):
            if name not in schema.names:
                raise unknown("column", name, schema.names, str(path))
        column_type = schema.field("embedding").type
        value_type = str(getattr(column_type, "value_type", column_type))
        if value_type not in ("halffloat", "float", "double"):
            raise InputError(f"{path}: embeddings must be lists of floats, not {column_type}")
        self.num_rows = int(self._file.metadata.num_rows)
        self.dim = max(getattr(column_type, "list_size", 0), 0)
        self.fingerprint = _file_state(path)

    def first_dim(self) -> int:
        """Returns the length of the first embedding, 0 if there is none."""
        for batch in self._file.iter_batches(1, columns=["embedding"]):
            return len(batch["embedding"][0].as_py() or ())
        return 0

    def ids(self) -> Iterator[list[str]]:
        with _named_errors(self.path):
            for batch in self._file.iter_batches(_ID_BLOCK, columns=["id"]):
                yield [_as_text(i) for i in batch["id"].to_pylist()]

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        groups, row = self._row_groups(start, stop)
        with _named_errors(self.path):
            columns = ["id", "embedding"]
            for batch in self._file.iter_batches(block_size, row_groups=groups, columns=columns):
                low, high = max(start - row, 0), min(stop - row, len(batch))
                if low < high:
                    rows = batch.slice(low, high - low)
                    ids = [_as_text(i) for i in rows["id"].to_pylist()]
                    x, faults = _stack_lists(rows["embedding"], dim)
                    yield EmbeddingBlock(row + low, ids, x, faults)
                row += len(batch)

    def _row_groups(self, start: int, stop: int) -> tuple[list[int], int]:
        """Returns the row groups that hold some rows, and the first row of the first group."""
        groups: list[int] = []
        first_row = row = 0
        for k in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(k).num_rows
            if row < stop and row + count > start:
                first_row = first_row if groups else row
                groups.append(k)
            row += count
        return groups, first_row


_CLASS_OF_SUFFIX: dict[str, type[NpyFile] | type[NpzFile] | type[ParquetFile]] = {
    ".npy": NpyFile,
    ".npz": NpzFile,
    ".parquet": ParquetFile,
}


def open_embedding_file(path: Path) -> EmbeddingFile:
    """Opens a `.npz`, `.npy` (with `.ids.txt`) or `.parquet` file.

    Args:
      path: Path of the file.

    Raises:
      InputError: The file has another format, is incomplete or cannot be read.
    """
    if path.suffix == ".tfrecord":
        raise InputError(
            f"{path}: a single shard does not name its node type; give the folder that lists it"
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: not a file of embeddings; expected {', '.join(SUFFIXES)}")
    return _CLASS_OF_SUFFIX[path.suffix](path)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turns the errors that a damaged file can raise into an `InputError` that names the file."""
    arrow_error = getattr(sys.modules.get("pyarrow"), "ArrowException", ValueError)
    try:
        yield
    except InputError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, arrow_error) as e:
        raise InputError(f"{path}: cannot be read: {' '.join(str(e).split())}") from e


def _checked_shape(path: Path, shape: tuple[int, ...], num_ids: int) -> tuple[int, int]:
    if len(shape) != 2 or shape[0] != num_ids:
        raise InputError(f"{path}: {num_ids} ids but embeddings of shape {shape}")
    return shape


def _file_state(path: Path) -> list[Any]:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _as_text(value: Any) -> str:
    """Returns an id that is stored as text, UTF-8 bytes or a number; "" for a missing one."""
    if value is None:
        return ""
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _as_float(x: np.ndarray) -> np.ndarray:
    """Converts to native byte order, and float64 to float32."""
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype == np.float64:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
    if x.dtype not in (np.float32, np.float16):
        raise ValueError(f"embeddings of {x.dtype}; expected float32, float16 or float64")
    return x


def _stack_lists(column: Any, dim: int) -> tuple[np.ndarray, dict[int, str]]:
    """Stacks a parquet column of lists to `[n, dim]`; rows of another length are faults."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    if (lengths == dim).all():
        flat = _as_float(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(-1, dim), {}
    dtype = "float16" if str(column.type.value_type) == "halffloat" else "float32"
    x, faults = np.zeros((len(column), dim), dtype), {}
    for i, length in enumerate(lengths.tolist()):
        if length == dim:
            x[i] = _as_float(column[i].values.to_numpy(zero_copy_only=False))
        else:
            faults[i] = "no vector" if length < 0 else f"dimension {length} where {dim} is needed"
    return x, faults


def import_parquet() -> Any:
    """Imports and returns `pyarrow.parquet`.

    Raises:
      InputError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise InputError("parquet needs pyarrow; install it with pip install pyarrow") from e
    return pq


# BioBridge names its feature files by the first word of the type.
_BIOBRIDGE_STEMS = {
    "biological": "biological_process",
    "cellular": "cellular_component",
    "molecular": "molecular_function",
}


def stem_matches_type(stem: str, node_type: str) -> bool:
    """Returns whether a file stem names a node type.

    Both `protein` and `gene_protein` name `gene/protein`.
    """
    stem = _BIOBRIDGE_STEMS.get(stem, stem)
    return stem in (node_type, file_name(node_type), node_type.split("/")[-1])


def read_sidecar(path: Path) -> tuple[NodeTable, str]:
    """Reads `nodes/<type>.json`, which describes the shards of an exported node type.

    Args:
      path: The JSON file.

    Returns:
      Entry for a manifest, and the name of the column that the ids come from.

    Raises:
      InputError: The file cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
        id_column = str(value.pop("id_column", "node_id"))
        return node_table_from_json(value), id_column
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: cannot be read: {e!r}; export the type again") from e
