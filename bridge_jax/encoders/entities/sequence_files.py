"""Reader of FASTA files: one entity per header."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from bridge_jax.data.delimited_text import CUT
from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.table_chunk import Finding, read_as
from bridge_jax.data.text_files import numbered_lines
from bridge_jax.encoders.entities.features import FeatureColumns, FeatureRow, feature_row
from bridge_jax.errors import InputError

_UNIPROT = re.compile(r"(?:sp|tr)\|([^|\s]+)\|\S*")
_NAME_END = re.compile(r"\s+(?:OS|OX|GN|PE|SV)=")  # of a UniProt header


def read_fasta(
    path: Path,
    columns: FeatureColumns,
    *,
    missing_values: Collection[str] = MISSING_VALUES,
    findings: list[Finding],
) -> Iterator[FeatureRow]:
    """Reads a FASTA file, plain or gzipped.

    Args:
      path: The file.
      columns: The columns `id`, `name` and `sequence`.
      missing_values: Texts that stand for a missing value.
      findings: Receives the lines before the first header, and the entities without an id.

    Yields:
      One row per header. The id is UniProt's accession (`sp|P04637|P53_HUMAN`), or else the header
      up to the first blank; the row number is that of the header's line.

    Raises:
      InputError: The file cannot be read to the end.
    """
    header, row, parts, ends_with_header = "", 0, list[str](), False
    for number, text, encoding in numbered_lines(path):
        if encoding:
            findings.append(Finding(path.name, number, read_as(encoding), text.strip(), 0))
        ends_with_header = text.startswith(">") and not text.endswith("\n")
        if text.startswith(">"):
            if row:
                yield from _entity(path, header, row, parts, columns, missing_values, findings)
            header, row, parts = text[1:].strip(), number, []
        elif row:
            parts.append("".join(text.split()))
        elif text.strip() and not text.startswith(";"):
            reason = "text before the first header"
            findings.append(Finding(path.name, number, reason, text.strip()))
    if not row:
        raise InputError(f"{path}: no header that starts with >; give a FASTA file")
    if ends_with_header:
        findings.append(Finding(path.name, row, CUT, header))
    else:
        yield from _entity(path, header, row, parts, columns, missing_values, findings)


def _entity(
    path: Path,
    header: str,
    row: int,
    parts: list[str],
    columns: FeatureColumns,
    missing_values: Collection[str],
    findings: list[Finding],
) -> Iterator[FeatureRow]:
    identifier, _, description = header.partition(" ")
    uniprot = _UNIPROT.fullmatch(identifier)
    name = _NAME_END.split(description)[0].strip()
    id_ = uniprot[1] if uniprot else identifier
    if not id_:
        findings.append(Finding(path.name, row, "a header without an id", header))
        return
    fields = {columns.id: id_, columns.name: name or id_, columns.text[0]: "".join(parts)}
    yield feature_row(fields, columns, missing_values, row)
