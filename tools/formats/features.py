"""Read BioBridge's node feature tables: ids, names, and the text an encoder reads."""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from bridge_jax.errors import InputError, unknown

# BioBridge joins diseases by node_index: a PrimeKG disease groups several MONDO ids.
ID_COLUMNS = ("node_id", "drugbank_id", "node_index", "id")
NAME_COLUMNS = ("node_name", "mondo_name", "name")
# What an encoder reads: one column, or a name and its description joined by ". ".
COLUMNS_READ = {
    "sequence": (("sequence",),),
    "smiles": (("smiles",),),
    "text": (
        ("mondo_name", "definition"),
        ("mondo_name", "mondo_definition"),
        ("node_name", "description"),
    ),
}


@dataclass(frozen=True)
class Feature:
    """One source row: ids, name and text; several rows may stand for one node."""

    id: str
    index: str
    name: str
    text: str


class Columns(NamedTuple):
    """Which columns of a table are read for what."""

    id: str
    name: str
    text: tuple[str, ...]


def choose_columns(
    path: Path, id_column: str = "", text_columns: tuple[str, ...] = (), reads: str = ""
) -> Columns:
    """Choose the columns of a feature table by its header.

    Args:
      path: a CSV with a header, plain or gzipped.
      id_column: the column of ids; by default the first of `ID_COLUMNS` that is there.
      text_columns: the columns an encoder reads; by default the first fitting of `COLUMNS_READ`.
      reads: `sequence`, `smiles` or `text`: only such columns will do; empty for any, or none.

    Raises:
      InputError: the file is missing or lacks a column.
    """
    with _open(path) as handle:
        header = list(csv.DictReader(handle).fieldnames or [])
    for name in (id_column, *text_columns):
        if name and name not in header:
            raise unknown("column", name, header, str(path))
    id_column = id_column or next((c for c in ID_COLUMNS if c in header), "")
    if not id_column:
        raise InputError(
            f"{path}: no id column among {', '.join(header)}; name it with --id-column"
        )
    kinds = [reads] if reads else list(COLUMNS_READ)
    fitting = (c for k in kinds for c in COLUMNS_READ[k] if set(c) <= set(header))
    text = text_columns or next(fitting, ())
    if reads and not text:
        raise InputError(
            f"{path}: no {reads} among {', '.join(header)}; name the columns with --text-columns"
        )
    return Columns(id_column, next((c for c in NAME_COLUMNS if c in header), id_column), text)


def read_features(path: Path, columns: Columns | None = None) -> Iterator[Feature]:
    """Read a feature table, plain or gzipped.

    Args:
      path: a CSV with a header.
      columns: what to read; by default what `choose_columns` finds.

    Raises:
      InputError: the file is missing or lacks a column.
    """
    columns = columns or choose_columns(path)
    with _open(path) as handle:
        for row in csv.DictReader(handle):
            get = {k: (v or "").strip() for k, v in row.items() if isinstance(v, str)}
            words = ". ".join(w for c in columns.text if (w := get.get(c, "")))
            index, name = get.get("node_index", ""), get.get(columns.name, "")
            yield Feature(get.get(columns.id, ""), index, name, words)


def _open(path: Path) -> TextIOWrapper:
    from .files import open_text

    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    return TextIOWrapper(open_text(path), encoding="utf-8", errors="replace", newline="")
