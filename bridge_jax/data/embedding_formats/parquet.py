"""Parquet: a column of lists or one column per dimension, with a column or pandas index of ids."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.arrays import EMBEDDING_NAMES, ID_NAMES
from bridge_jax.data.embedding_formats.base import (
    DEFAULT,
    ID_BLOCK,
    EmbeddingBlock,
    EmbeddingFile,
    ReadOptions,
    as_float,
    check_unpacked,
    file_state,
    named_errors,
    stack_vectors,
)
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.data.embedding_formats.text_matrix import check_wide_names
from bridge_jax.errors import InputError, unknown

_FLOATS = ("halffloat", "float", "double")
_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary")


class ParquetFile(EmbeddingFile):
    """Embeddings in one column of lists or in many columns of numbers, with ids."""

    def __init__(self, path: Path, options: ReadOptions = DEFAULT) -> None:
        """Reads the schema.

        Args:
          path: The parquet file.
          options: How the file is read.

        Raises:
          InputError: pyarrow is not installed, or a column is missing or has the wrong type.
        """
        pq = import_parquet()
        self.path = path
        with named_errors(path):
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            schema = self._file.schema_arrow
            for name in schema.names:
                if schema.names.count(name) > 1:
                    raise InputError(f"{path}: two columns are called {name!r}; rename one")
            self._id = _find_id_column(path, schema, options)
            self._lists, self._wide = _find_embedding_columns(path, schema, self._id, options)
        self.num_rows = int(self._file.metadata.num_rows)
        size = path.stat().st_size
        if self._lists:
            self.dim = max(getattr(_storage(schema.field(self._lists).type), "list_size", 0), 0)
        else:
            self.dim = len(self._wide)
        unpacked = self.num_rows * max(self.first_dim(), 1) * 4
        check_unpacked(path, "its embeddings", unpacked, size, options)
        self.fingerprint = file_state(path)

    def first_dim(self) -> int:
        if self.dim or not self._lists:
            return self.dim
        with named_errors(self.path):
            for batch in self._file.iter_batches(1, columns=[self._lists]):
                return len(_plain(batch[self._lists])[0].as_py() or ())
        return 0

    def ids(self) -> Iterator[list[str]]:
        with named_errors(self.path):
            if not self._id:
                for start in range(0, self.num_rows, ID_BLOCK):
                    yield [str(i) for i in range(start, min(start + ID_BLOCK, self.num_rows))]
                return
            for batch in self._file.iter_batches(ID_BLOCK, columns=[self._id]):
                yield self._as_ids(batch, 0)

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        groups, row = self._row_groups(start, stop)
        columns = [c for c in (self._id, self._lists, *self._wide) if c]
        num_rows = 0
        with named_errors(self.path):
            for batch in self._file.iter_batches(block_size, row_groups=groups, columns=columns):
                low, high = max(start - row, 0), min(stop - row, len(batch))
                if low < high:
                    rows = batch.slice(low, high - low)
                    ids = self._as_ids(rows, row + low)
                    x, faults = self._x(rows, dim)
                    num_rows += high - low
                    yield EmbeddingBlock(row + low, ids, x, faults)
                row += len(batch)
            if num_rows != stop - start:
                raise EOFError(f"it has {num_rows} rows where its footer claims {stop - start}")

    def _as_ids(self, batch: Any, first_row: int) -> list[str]:
        if not self._id:
            return [str(first_row + i) for i in range(len(batch))]
        column = batch[self._id]
        is_float = str(column.type) in _FLOATS
        values = column.to_numpy(zero_copy_only=False) if is_float else column.to_pylist()
        return as_ids(values, f"{self.path}: {self._id}")

    def _x(self, batch: Any, dim: int) -> tuple[np.ndarray, dict[int, str]]:
        if self._lists:
            return _stack_lists(_plain(batch[self._lists]), dim)
        columns = [batch[name].to_numpy(zero_copy_only=False) for name in self._wide]
        x = np.stack(columns, axis=1)
        return as_float(x if x.dtype.kind == "f" else x.astype(np.float64))

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


def _find_id_column(path: Path, schema: Any, options: ReadOptions) -> str:
    """Returns the column of ids: `id`, the pandas index, or the only text column."""
    names = schema.names
    if options.id_key:
        if options.id_key not in names:
            raise unknown("column", options.id_key, names, str(path))
        return options.id_key
    if "id" in names:
        return "id"
    text = [n for n in names if _is_text(schema.field(n).type)]
    indices = [n for n in _pandas_index(schema) if n in names]
    if len(indices) > 1:
        raise InputError(
            f"{path}: the pandas index has {len(indices)} levels ({', '.join(indices)}); pass "
            f"--id-key {indices[0]}"
        )
    candidates = text or indices
    if len(candidates) > 1:
        candidates = [n for n in text if n.lower() in ID_NAMES and n not in indices]
        if len(candidates) != 1 or set(indices) & set(text):
            raise InputError(
                f"{path}: {', '.join(text[:5])} may all be the ids; pass --id-key {text[0]}"
            )
    if not candidates:
        candidates = [n for n in names if n.lower() in ID_NAMES]
    if len(candidates) == 1:
        return candidates[0]
    if not options.needs_ids:
        return ""
    raise unknown("column", "id", names[:8], str(path))


def _find_embedding_columns(
    path: Path, schema: Any, id_column: str, options: ReadOptions
) -> tuple[str, list[str]]:
    """Returns the column of lists, or else the columns of numbers."""
    names = [n for n in schema.names if n != id_column]
    types = {n: _storage(schema.field(n).type) for n in names}
    key = options.key or ("embedding" if "embedding" in names else "")
    if key:
        if key not in names:
            raise unknown("column", key, names[:8], str(path))
        if _value_type(types[key]) not in _FLOATS:
            raise InputError(f"{path}: embeddings must be lists of floats, not {types[key]}")
        return key, []
    lists = [n for n in names if _value_type(types[n]) in _FLOATS]
    if len(lists) > 1:
        lists = [n for n in lists if n.lower() in EMBEDDING_NAMES] or lists
    if len(lists) > 1:
        raise InputError(
            f"{path}: {', '.join(lists[:5])} may all be the embeddings; pass --embedding-key "
            f"{lists[0]}"
        )
    if lists:
        return lists[0], []
    index = set(_pandas_index(schema))
    wide = [n for n in names if _is_number(types[n]) and n not in index]
    if not wide:
        raise InputError(
            f"{path}: no column of embeddings (lists of floats, or numbers); it has: "
            f"{', '.join(schema.names[:8])}"
        )
    check_wide_names(path, wide, [n for n in wide if str(types[n]) not in _FLOATS])
    return "", wide


def _pandas_index(schema: Any) -> list[str]:
    """Returns the columns that were the index of a pandas data frame."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return [n for n in metadata.get("index_columns", []) if isinstance(n, str)]
    except (ValueError, AttributeError, TypeError):
        return [n for n in schema.names if n == "__index_level_0__"]


def _storage(column_type: Any) -> Any:
    """Returns the type under an extension type, such as Arrow's fixed-shape tensors."""
    return getattr(column_type, "storage_type", column_type)


def _plain(column: Any) -> Any:
    return getattr(column, "storage", column)


def _value_type(column_type: Any) -> str:
    is_list = "list" in str(column_type).partition("<")[0]
    return str(column_type.value_type) if is_list else ""


def _is_text(column_type: Any) -> bool:
    is_dictionary = str(column_type).startswith("dictionary")
    return str(column_type.value_type if is_dictionary else column_type) in _TEXTS


def _is_number(column_type: Any) -> bool:
    return str(column_type) in _FLOATS or str(column_type).startswith(("int", "uint"))


def _stack_lists(column: Any, dim: int) -> tuple[np.ndarray, dict[int, str]]:
    """Stacks a parquet column of lists to `[n, dim]`; rows of another length are faults."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    if (lengths == dim).all():
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return as_float(flat.reshape(-1, dim))
    vectors = [
        column[i].values.to_numpy(zero_copy_only=False) if length >= 0 else None
        for i, length in enumerate(lengths.tolist())
    ]
    return stack_vectors(vectors, dim)


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
