"""Reader of node feature tables: ids, names and the text that an encoder reads.

A table is delimited text with a header; BioBridge's node tables and UniProt's downloads are such.
Every row of the file is a `FeatureRow`, or a reject with its row number and reason.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.delimited_file import DelimitedFile
from bridge_jax.data.delimited_text import find_layout
from bridge_jax.data.missing import MISSING_VALUES, is_missing
from bridge_jax.data.synonyms import SEPARATOR, synonym_columns
from bridge_jax.data.table_chunk import Finding, TableChunk
from bridge_jax.errors import InputError, unknown

# BioBridge joins diseases by node_index: a PrimeKG disease groups several MONDO ids. UniProt's
# tables have `Entry`. Names are compared exactly first, and then whatever their case.
ID_COLUMNS = ("node_id", "drugbank_id", "node_index", "id", "Entry")
NAME_COLUMNS = ("node_name", "mondo_name", "name", "Protein names", "Gene Names")
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
_KNOWN_COLUMNS = (
    *ID_COLUMNS,
    *NAME_COLUMNS,
    *{name for choices in TEXT_COLUMNS.values() for names in choices for name in names},
)


@dataclass(frozen=True)
class FeatureRow:
    """One row of a feature table; several rows may describe one node.

    Attributes:
      id: Value of the id column.
      node_index: Value of the column `node_index`; may be empty.
      name: Value of the name column; empty if it is a missing value.
      text: Values of the text columns without missing ones, joined by ". ".
      row: Row number in the file, from 1.
      reason: Why the row has no text, if a missing value stands in its place; may be empty.
      synonyms: Values of the columns of synonyms, separated by `|`; may be empty.
    """

    id: str
    node_index: str
    name: str
    text: str
    row: int = field(default=0, compare=False)
    reason: str = field(default="", compare=False)
    synonyms: str = field(default="", compare=False)


class FeatureColumns(NamedTuple):
    """Names of the columns of a feature table with the id, the name and the text."""

    id: str
    name: str
    text: tuple[str, ...]


def read_header(path: Path, delimiter: str = "") -> list[str]:
    """Returns the column names of a feature table, plain or gzipped.

    Args:
      path: The table.
      delimiter: Field separator; default: found by the header and the first rows.

    Raises:
      InputError: The file is missing, empty or truncated, is not text, or has two columns of one
        name.
    """
    return find_layout(path, delimiter, known_columns=_KNOWN_COLUMNS).names


def choose_columns(
    path: Path,
    id_column: str = "",
    text_columns: tuple[str, ...] = (),
    input_type: str = "",
    delimiter: str = "",
) -> FeatureColumns:
    """Chooses the columns of a feature table by its header.

    Args:
      path: Delimited text with a header, plain or gzipped.
      id_column: Name of the id column; default: the first of `ID_COLUMNS` in the header.
      text_columns: Names of the text columns; default: the first match of `TEXT_COLUMNS`, if any.
      input_type: `sequence`, `smiles` or `text` to require text columns of that type; default: no
        requirement.
      delimiter: Field separator; default: found by the header and the first rows.

    Raises:
      InputError: The file is missing or truncated, or lacks a column.
    """
    header = read_header(path, delimiter)
    return columns_of_header(path, header, id_column, text_columns, input_type)


def columns_of_header(
    path: Path,
    header: Sequence[str],
    id_column: str = "",
    text_columns: tuple[str, ...] = (),
    input_type: str = "",
) -> FeatureColumns:
    """Chooses columns as `choose_columns` does, of a table with the given header."""
    for name in (id_column, *text_columns):
        if name and name not in header:
            raise unknown("column", name, header, str(path))
    id_column = id_column or next((c for n in ID_COLUMNS if (c := _find(n, header))), "")
    if not id_column:
        raise InputError(
            f"{path}: no id column among {', '.join(header)}; name it with --id-column, or rename "
            f"it to {ID_COLUMNS[0]}"
        )
    input_types = [input_type] if input_type else list(TEXT_COLUMNS)
    candidates = (
        tuple(_find(c, header) for c in names) for t in input_types for names in TEXT_COLUMNS[t]
    )
    text = text_columns or next((c for c in candidates if all(c)), ())
    if input_type and not text:
        raise InputError(
            f"{path}: no {input_type} among {', '.join(header)}; name the columns with "
            "--text-columns"
        )
    name_column = next((c for n in NAME_COLUMNS if (c := _find(n, header))), id_column)
    return FeatureColumns(id_column, name_column, text)


def _find(name: str, header: Sequence[str]) -> str:
    """Returns the column of a name, or else the only one that differs in case; "" for none."""
    similar = [column for column in header if column.casefold() == name.casefold()]
    return name if name in similar else similar[0] if len(similar) == 1 else ""


def read_features(
    path: Path,
    columns: FeatureColumns | None = None,
    *,
    delimiter: str = "",
    missing_values: Collection[str] = MISSING_VALUES,
    findings: list[Finding] | None = None,
) -> Iterator[FeatureRow]:
    """Reads a feature table, plain or gzipped.

    Args:
      path: Delimited text with a header.
      columns: Columns to read; default: those that `choose_columns` finds.
      delimiter: Field separator; default: found by the header and the first rows.
      missing_values: Texts that stand for a missing value. An id is never one.
      findings: Receives the rejects and notices; default: a reject is an error.

    Yields:
      The usable rows; together with the rejects they are all rows of the file.

    Raises:
      InputError: The file is missing or truncated, or lacks a column.
    """
    columns = columns or choose_columns(path, delimiter=delimiter)
    header = read_header(path, delimiter)
    index = [name for name in ("node_index",) if name in header]
    more = (*index, *synonym_columns(header))
    wanted = list(dict.fromkeys((columns.id, columns.name, *columns.text, *more)))
    for chunk in DelimitedFile(path, wanted, header, delimiter).chunks():
        if findings is not None:
            findings += [*chunk.rejects, *chunk.notices]
        elif chunk.rejects:
            first = chunk.rejects[0]
            raise InputError(f"{path}: row {first.row}: {first.reason}; correct or remove it")
        yield from _rows(chunk, columns, missing_values)


def _rows(
    chunk: TableChunk, columns: FeatureColumns, missing_values: Collection[str]
) -> Iterator[FeatureRow]:
    values = {name: (c.values, c.codes.tolist()) for name, c in chunk.columns.items()}
    for i, row in enumerate(chunk.rows.tolist()):
        fields = {name: words[codes[i]] for name, (words, codes) in values.items()}
        yield feature_row(fields, columns, missing_values, row)


def feature_row(
    fields: dict[str, str], columns: FeatureColumns, missing_values: Collection[str], row: int
) -> FeatureRow:
    """Makes the row of an id from the fields of a record.

    Args:
      fields: Values by column name.
      columns: The columns with the id, the name and the text.
      missing_values: Texts that stand for a missing value.
      row: Row number in the file.
    """
    words = [fields.get(c, "") for c in columns.text]
    present = [word for word in words if not is_missing(word, missing_values)]
    missing = next((word for word in words if word), "")
    reason = f"{missing!r} is a missing value" if missing and not present else ""
    name = fields.get(columns.name, "")
    if columns.name != columns.id and is_missing(name, missing_values):
        name = ""
    id_, index = fields.get(columns.id, ""), fields.get("node_index", "")
    lists = [v for k in synonym_columns(fields) if not is_missing(v := fields[k], missing_values)]
    return FeatureRow(id_, index, name, ". ".join(present), row, reason, SEPARATOR.join(lists))
