"""Reader of feature tables in Parquet files."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.table_chunk import Finding
from bridge_jax.encoders.entities.features import (
    FeatureColumns,
    FeatureRow,
    columns_of_header,
    feature_row,
)
from bridge_jax.errors import InputError


def choose_parquet_columns(
    path: Path, id_column: str = "", text_columns: tuple[str, ...] = (), input_type: str = ""
) -> FeatureColumns:
    """Chooses the columns of a Parquet file, as `choose_columns` does for text.

    If no column is named like an id, the index of a pandas data frame is the id.

    Raises:
      InputError: The file is damaged or lacks a column.
    """
    schema = _open(path).schema_arrow
    duplicates = [name for name in schema.names if schema.names.count(name) > 1]
    if duplicates:
        raise InputError(
            f"{path}: column {duplicates[0]!r} occurs {len(duplicates)} times; rename or remove "
            "all but one"
        )
    index = _pandas_index(schema)
    if not id_column and index:
        try:
            return columns_of_header(path, schema.names, "", text_columns, input_type)
        except InputError:
            id_column = index
    return columns_of_header(path, schema.names, id_column, text_columns, input_type)


def read_parquet(
    path: Path,
    columns: FeatureColumns,
    *,
    missing_values: Collection[str] = MISSING_VALUES,
    findings: list[Finding],
) -> Iterator[FeatureRow]:
    """Reads a feature table from a Parquet file.

    Args:
      path: The file.
      columns: Columns to read, of text or numbers.
      missing_values: Texts that stand for a missing value.
      findings: Receives nothing; there are no rejects in a Parquet file.

    Yields:
      One row per row of the file, counted from 1. Whole-valued floats are whole numbers: an id
      `9606.0` is `9606`.

    Raises:
      InputError: The file is damaged, or a column has neither text nor numbers.
    """
    import pyarrow as pa

    file = _open(path)
    names = [n for n in dict.fromkeys((columns.id, columns.name, *columns.text, "node_index"))
             if n in file.schema_arrow.names]  # fmt: skip
    for name in names:
        dtype = file.schema_arrow.field(name).type
        if pa.types.is_nested(dtype) or pa.types.is_binary(dtype):
            raise InputError(f"{path}: column {name!r} has {dtype}; expected text or numbers")
    row = 0
    try:
        for batch in file.iter_batches(columns=names):
            values = [column.to_pylist() for column in batch.columns]
            for record in zip(*values, strict=True):
                row += 1
                fields = {n: _text(v) for n, v in zip(names, record, strict=True)}
                yield feature_row(fields, columns, missing_values, row)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as e:
        raise InputError(f"{path}: cannot be read to the end: {_one_line(e)}") from e


def _text(value: Any) -> str:
    """The text of a value; empty for null."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _pandas_index(schema: Any) -> str:
    """The only index column of a pandas data frame; empty if there is none."""
    try:
        index = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError):
        return ""
    return index[0] if len(index) == 1 and index[0] in schema.names else ""


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _ = file.schema_arrow.names  # may not be UTF-8
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as e:
        raise InputError(f"{path}: cannot be read: {_one_line(e)}") from e
    return file


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
