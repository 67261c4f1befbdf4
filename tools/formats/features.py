"""Reader of BioBridge's node feature tables: ids, names and the text that an encoder reads.

These are CSV files with a header. Unlike in an edge file, a quoted field may contain line breaks,
so they are read with the standard library's `csv`.
"""

import csv
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from bridge_jax.errors import InputError, unknown

from .files import open_decompressed

# BioBridge joins diseases by node_index: a PrimeKG disease groups several MONDO ids.
ID_COLUMNS = ("node_id", "drugbank_id", "node_index", "id")
NAME_COLUMNS = ("node_name", "mondo_name", "name")
# Columns with the input of an encoder: one column, or a name and a description joined by ". ".
TEXT_COLUMNS = {
    "sequence": (("sequence",),),
    "smiles": (("smiles",),),
    "text": (
        ("mondo_name", "definition"),
        ("mondo_name", "mondo_definition"),
        ("node_name", "description"),
    ),
}


@dataclass(frozen=True)
class FeatureRow:
    """One row of a feature table; several rows may describe one node.

    Attributes:
      id: Value of the id column.
      node_index: Value of the column `node_index`; may be empty.
      name: Value of the name column.
      text: Values of the text columns, joined by ". ".
    """

    id: str
    node_index: str
    name: str
    text: str


class FeatureColumns(NamedTuple):
    """Names of the columns of a feature table with the id, the name and the text."""

    id: str
    name: str
    text: tuple[str, ...]


def read_header(path: Path) -> list[str]:
    """Returns the column names of a feature table, plain or gzipped.

    Raises:
      InputError: The file is missing, empty, truncated or a Git LFS pointer.
    """
    with _open(path) as handle:
        return list(csv.DictReader(handle).fieldnames or [])


def choose_columns(
    path: Path, id_column: str = "", text_columns: tuple[str, ...] = (), input_type: str = ""
) -> FeatureColumns:
    """Chooses the columns of a feature table by its header.

    Args:
      path: CSV file with a header, plain or gzipped.
      id_column: Name of the id column; default: the first of `ID_COLUMNS` in the header.
      text_columns: Names of the text columns; default: the first match of `TEXT_COLUMNS`, if any.
      input_type: `sequence`, `smiles` or `text` to require text columns of that type; default: no
        requirement.

    Raises:
      InputError: The file is missing or truncated, or lacks a column.
    """
    header = read_header(path)
    for name in (id_column, *text_columns):
        if name and name not in header:
            raise unknown("column", name, header, str(path))
    id_column = id_column or next((c for c in ID_COLUMNS if c in header), "")
    if not id_column:
        raise InputError(
            f"{path}: no id column among {', '.join(header)}; name it with --id-column"
        )
    input_types = [input_type] if input_type else list(TEXT_COLUMNS)
    candidates = (c for t in input_types for c in TEXT_COLUMNS[t] if set(c) <= set(header))
    text = text_columns or next(candidates, ())
    if input_type and not text:
        raise InputError(
            f"{path}: no {input_type} among {', '.join(header)}; name the columns with "
            "--text-columns"
        )
    name_column = next((c for c in NAME_COLUMNS if c in header), id_column)
    return FeatureColumns(id_column, name_column, text)


def read_features(path: Path, columns: FeatureColumns | None = None) -> Iterator[FeatureRow]:
    """Reads a feature table, plain or gzipped.

    Args:
      path: CSV file with a header.
      columns: Columns to read; default: those that `choose_columns` finds.

    Raises:
      InputError: The file is missing or truncated, or lacks a column.
    """
    columns = columns or choose_columns(path)
    with _open(path) as handle:
        for row in csv.DictReader(handle):
            fields = {k: (v or "").strip() for k, v in row.items() if isinstance(v, str)}
            text = ". ".join(w for c in columns.text if (w := fields.get(c, "")))
            index, name = fields.get("node_index", ""), fields.get(columns.name, "")
            yield FeatureRow(fields.get(columns.id, ""), index, name, text)


@contextmanager
def _open(path: Path) -> Iterator[TextIOWrapper]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with TextIOWrapper(
            open_decompressed(path), "utf-8", errors="replace", newline=""
        ) as handle:
            if handle.read(1) != "\ufeff":  # spreadsheets write a byte order mark
                handle.seek(0)
            yield handle
    except (EOFError, OSError, zlib.error, csv.Error) as e:
        raise InputError(f"{path}: cannot be read to the end: {e}") from e
