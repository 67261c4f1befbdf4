"""Read BioBridge's node feature tables: ids, names, and the text an encoder reads."""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from bridge_jax.errors import InputError, unknown
from tools.formats.edges import open_text

# BioBridge joins diseases by node_index: a PrimeKG disease groups several MONDO ids.
ID_COLUMNS = ("node_id", "drugbank_id", "node_index", "id")
NAME_COLUMNS = ("node_name", "mondo_name", "name")
# What an encoder reads: one column, or a name and its description joined by ". ".
TEXT_COLUMNS = (
    ("sequence",),
    ("smiles",),
    ("mondo_name", "definition"),
    ("node_name", "description"),
)


@dataclass(frozen=True)
class Feature:
    """One source row: ids, name and text; several rows may stand for one node."""

    id: str
    index: str
    name: str
    text: str


def read_features(
    path: Path, id_column: str = "", text_columns: tuple[str, ...] = ()
) -> Iterator[Feature]:
    """Read a feature table, plain or gzipped.

    Args:
      path: a CSV with a header.
      id_column: the column of ids; by default the first of `ID_COLUMNS` that is there.
      text_columns: the columns an encoder reads; by default the first fitting of `TEXT_COLUMNS`.

    Raises:
      InputError: the file is missing or lacks a column.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with TextIOWrapper(open_text(path), encoding="utf-8", errors="replace", newline="") as handle:
        reader = csv.DictReader(handle)
        header = list(reader.fieldnames or [])
        for name in (id_column, *text_columns):
            if name and name not in header:
                raise unknown("column", name, header, str(path))
        id_column = id_column or next((c for c in ID_COLUMNS if c in header), "")
        if not id_column:
            raise InputError(f"{path}: no id column among {', '.join(header)}; name it")
        text = text_columns or next((c for c in TEXT_COLUMNS if set(c) <= set(header)), ())
        name_column = next((c for c in NAME_COLUMNS if c in header), id_column)
        for row in reader:
            words = ". ".join(w for c in text if (w := (row[c] or "").strip()))
            index = (row.get("node_index") or "").strip()
            yield Feature(
                (row[id_column] or "").strip(), index, (row[name_column] or "").strip(), words
            )
