"""Readers of entities to encode: tables, FASTA, SMILES files, SDF and Parquet.

| format | id | text |
|---|---|---|
| `table` | id column | text columns |
| `fasta` | UniProt accession, or the header up to the first blank | `sequence` |
| `smi` | what follows the SMILES on its line | `smiles` |
| `sdf` | a property such as `drugbank_id`, or the first line of the record | `smiles` |
| `parquet` | id column, or the index of the data frame | text columns |

The format is found by the content of the file, not by its name.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.table_chunk import Finding
from bridge_jax.data.text_files import READ_ERRORS, decode_line, first_bytes, open_text
from bridge_jax.encoders.entities.features import (
    FeatureColumns,
    FeatureRow,
    choose_columns,
    read_features,
)
from bridge_jax.encoders.entities.molecule_files import (
    SDF_END,
    choose_sdf_columns,
    read_sdf,
    read_smi,
)
from bridge_jax.encoders.entities.parquet_table import choose_parquet_columns, read_parquet
from bridge_jax.encoders.entities.sequence_files import read_fasta
from bridge_jax.encoders.smiles import looks_like_smiles
from bridge_jax.errors import InputError

FORMATS = ("table", "fasta", "smi", "sdf", "parquet")
# What a file of these formats has.
INPUT_TYPES = {"fasta": "sequence", "smi": "smiles", "sdf": "smiles"}
_PROBE_LINES = 200


@dataclass(frozen=True)
class Entities:
    """A file of entities to encode.

    Attributes:
      path: The file.
      format: One of `FORMATS`.
      columns: Columns with the id, the name and the text.
      delimiter: Field separator of a table; empty if it is to be found.
      missing_values: Texts that stand for a missing value.
    """

    path: Path
    format: str
    columns: FeatureColumns
    delimiter: str = ""
    missing_values: Collection[str] = MISSING_VALUES

    def read(self, findings: list[Finding]) -> Iterator[FeatureRow]:
        """Reads the file.

        Args:
          findings: Receives the rejects and notices.

        Yields:
          The usable rows; together with the rejects they are all rows of the file.

        Raises:
          InputError: The file cannot be read to the end.
        """
        options: dict[str, Any] = {"missing_values": self.missing_values, "findings": findings}
        if self.format == "table":
            return read_features(self.path, self.columns, delimiter=self.delimiter, **options)
        readers: dict[str, Callable[..., Iterator[FeatureRow]]] = {
            "fasta": read_fasta, "smi": read_smi, "sdf": read_sdf, "parquet": read_parquet,
        }  # fmt: skip
        return readers[self.format](self.path, self.columns, **options)


def open_entities(
    path: Path,
    format: str = "",
    id_column: str = "",
    text_columns: tuple[str, ...] = (),
    input_type: str = "",
    delimiter: str = "",
    missing_values: Collection[str] = MISSING_VALUES,
) -> Entities:
    """Finds the format and the columns of a file of entities.

    Args:
      path: The file.
      format: One of `FORMATS`; default: found by the content.
      id_column: Name of the id column, or of the property of an SDF.
      text_columns: Names of the text columns of a table.
      input_type: `sequence`, `smiles` or `text`, what the encoder reads; default: any.
      delimiter: Field separator of a table; default: found.
      missing_values: Texts that stand for a missing value.

    Raises:
      InputError: The file is missing or empty, lacks a column, or has another type of input.
    """
    format = format or detect_format(path)
    if format == "table":
        columns = choose_columns(path, id_column, text_columns, input_type, delimiter)
    elif format == "parquet":
        columns = choose_parquet_columns(path, id_column, text_columns, input_type)
    else:
        text = INPUT_TYPES[format]
        if input_type and input_type != text:
            raise InputError(
                f"{path}: read as --format {format}, which has no {input_type}: choose another "
                "--encoder, or the --format of this file"
            )
        if text_columns:
            raise InputError(f"{path}: --text-columns is for tables, not for --format {format}")
        if id_column and format != "sdf":
            raise InputError(f"{path}: --id-column is for tables, not for --format {format}")
        columns = FeatureColumns("id", "name", (text,))
        if format == "sdf":
            columns = choose_sdf_columns(path, id_column)
    return Entities(path, format, columns, delimiter, missing_values)


def detect_format(path: Path) -> str:
    """Returns the format of a file of entities by its content, one of `FORMATS`.

    Raises:
      InputError: The file is missing, empty or of a format that is not read.
    """
    if first_bytes(path).startswith(b"PAR1"):
        return "parquet"
    try:
        with open_text(path) as handle:
            lines = [decode_line(handle.readline(1 << 16))[0] for _ in range(_PROBE_LINES)]
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    filled = [line for line in lines if line.strip()]
    is_comment = filled and filled[0].startswith(";") and any(x.startswith(">") for x in filled)
    if is_comment or (filled and filled[0].startswith(">")):
        return "fasta"
    counts_line = lines[3].rstrip() if len(lines) > 3 else ""
    if counts_line.endswith(("V2000", "V3000")) or any(x.rstrip() == SDF_END for x in lines):
        return "sdf"
    # A header line `SMILES Name`, as RDKit and Open Babel write it, is no SMILES.
    first = filled[0].split()[0].casefold() if filled else ""
    has_blank = len(filled[0].split()) > 1 and "\t" not in filled[0] if filled else False
    body = filled[1:] if first == "smiles" and has_blank else filled
    if body and all(looks_like_smiles(line.split()[0]) for line in body):
        return "smi"
    return "table"
