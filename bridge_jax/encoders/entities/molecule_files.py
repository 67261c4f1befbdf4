"""Readers of files of molecules: SMILES files (`.smi`) and SDF."""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bridge_jax.data.delimited_text import CUT
from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.table_chunk import Finding, read_as
from bridge_jax.data.text_files import numbered_lines
from bridge_jax.encoders.base import import_optional
from bridge_jax.encoders.entities.features import (
    ID_COLUMNS,
    NAME_COLUMNS,
    FeatureColumns,
    FeatureRow,
    feature_row,
)
from bridge_jax.encoders.smiles import split_smiles
from bridge_jax.errors import unknown

SDF_END = "$$$$"
TITLE = "title"  # the first line of a record
_PROBE_RECORDS = 100
_PROPERTY = re.compile(r">.*<(.+)>")
_EXTENSION = re.compile(r"\|[^|]*\|\s*")  # CXSMILES


def read_smi(
    path: Path,
    columns: FeatureColumns,
    *,
    missing_values: Collection[str] = MISSING_VALUES,
    findings: list[Finding],
) -> Iterator[FeatureRow]:
    """Reads a SMILES file, plain or gzipped: a SMILES, a blank and a title on each line.

    Args:
      path: The file.
      columns: The columns `id`, `name` and `smiles`.
      missing_values: Texts that stand for a missing value.
      findings: Receives the lines without a title, and a header.

    Yields:
      One row per line. The id is the title: the first field if fields are separated by tabs, else
      the whole rest of the line without a CXSMILES extension.

    Raises:
      InputError: The file cannot be read to the end.
    """
    for number, text in _lines(path, findings):
        if not text.strip():
            continue
        smiles, title = split_smiles(text)
        if number == 1 and smiles.casefold() == "smiles":
            findings.append(Finding(path.name, number, "a header", text, 0))
            continue
        title = _EXTENSION.sub("", title, count=1) if title.startswith("|") else title
        first = title.split("\t")[0].strip()
        if not first:
            findings.append(Finding(path.name, number, "no id after the SMILES", text))
            continue
        fields = {columns.id: first, columns.name: first, columns.text[0]: smiles}
        yield feature_row(fields, columns, missing_values, number)


class _Record(NamedTuple):
    """Record of an SDF.

    Attributes:
      row: Number of its first line, from 1.
      lines: Lines of the molecule.
      properties: Values by name.
      problem: Why the record cannot be used; empty if it can.
    """

    row: int
    lines: list[str]
    properties: dict[str, str]
    problem: str


def choose_sdf_columns(path: Path, id_column: str = "") -> FeatureColumns:
    """Chooses the properties of an SDF that hold the id and the name.

    Args:
      path: The file.
      id_column: Name of a property, or `title`; default: the first of `ID_COLUMNS`, whatever its
        case, that the first records have, or else the title.

    Raises:
      InputError: The first records lack the property.
    """
    records = list(islice(_records(path, []), _PROBE_RECORDS))
    names = list(dict.fromkeys(name for record in records for name in record.properties))
    if id_column and id_column not in (*names, TITLE):
        raise unknown("property", id_column, (TITLE, *names), str(path))
    by_case = {name.casefold(): name for name in reversed(names)}
    found = (by_case.get(c.casefold(), "") for c in ID_COLUMNS)
    id_column = id_column or next(filter(None, found), TITLE)
    named = (by_case.get(c.casefold(), "") for c in ("generic_name", *NAME_COLUMNS))
    return FeatureColumns(id_column, next(filter(None, named), TITLE), ("smiles",))


def read_sdf(
    path: Path,
    columns: FeatureColumns,
    *,
    missing_values: Collection[str] = MISSING_VALUES,
    findings: list[Finding],
) -> Iterator[FeatureRow]:
    """Reads an SDF, plain or gzipped, with RDKit.

    Args:
      path: The file.
      columns: Properties with the id and the name; the text is the SMILES of the molecule.
      missing_values: Texts that stand for a missing value.
      findings: Receives the records without an id, and a record that was cut off.

    Yields:
      One row per record; a molecule that RDKit cannot read gives a row without text, with the
      reason. The row number is that of the record's first line.

    Raises:
      InputError: RDKit is missing, or the file cannot be read to the end.
    """
    chem = _import_rdkit()
    for record in _records(path, findings):
        properties = {TITLE: record.lines[0].strip(), **record.properties}
        id_ = properties.get(columns.id, "")
        if record.problem:
            text = id_ or record.lines[0].strip()
            findings.append(Finding(path.name, record.row, record.problem, text))
            continue
        molecule = chem.MolFromMolBlock("\n".join(record.lines))
        readable = molecule is not None and molecule.GetNumAtoms()
        smiles = chem.MolToSmiles(molecule) if readable else ""
        fields = {**properties, columns.text[0]: smiles}
        row = feature_row(fields, columns, missing_values, record.row)
        yield row if readable else replace(row, reason="RDKit cannot read the molecule")


def _records(path: Path, findings: list[Finding]) -> Iterator[_Record]:
    start, lines = 1, list[str]()
    for number, text in _lines(path, findings):
        if text.rstrip() == SDF_END:
            yield _record(start, lines)
            start, lines = number + 1, []
        else:
            lines.append(text)
    if any(line.strip() for line in lines):
        yield _record(start, lines, CUT)


def _record(row: int, lines: list[str], problem: str = "no line M  END") -> _Record:
    end = next((i for i, line in enumerate(lines) if line.startswith("M  END")), -1)
    properties: dict[str, str] = {}
    name = ""
    for line in lines[end + 1 :] if end >= 0 else ():
        if match := _PROPERTY.match(line):
            name = match[1]
            properties[name] = ""
        elif name and line.strip():
            properties[name] = "\n".join(filter(None, (properties[name], line.strip())))
        else:
            name = ""
    return _Record(row, lines[: end + 1] if end >= 0 else lines or [""], properties,
                   "" if end >= 0 else problem)  # fmt: skip


def _lines(path: Path, findings: list[Finding]) -> Iterator[tuple[int, str]]:
    """Yields the number and the text of each line, without its line break."""
    for number, text, encoding in numbered_lines(path):
        if encoding:
            findings.append(Finding(path.name, number, read_as(encoding), text.strip(), 0))
        yield number, text.rstrip("\r\n")


def _import_rdkit() -> Any:
    remedy = "pip install 'bridge_jax[molecules]'"
    import_optional("rdkit.RDLogger", remedy, "reading an SDF").DisableLog("rdApp.*")
    return import_optional("rdkit.Chem", remedy, "reading an SDF")
