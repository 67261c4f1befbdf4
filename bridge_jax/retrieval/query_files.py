"""Reading of new queries from files: FASTA, tables, SMILES files, SDF and Parquet."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge_jax.data.table_chunk import Finding
from bridge_jax.encoders.entities.entity_file import INPUT_TYPES, detect_format, open_entities
from bridge_jax.encoders.query_encoder import Query, QueryEncoder, number_equal
from bridge_jax.errors import InputError

_MAX_NOTICES = 5


@dataclass(frozen=True)
class QueryFile:
    """A file of queries and how it is read; the fields but the first are as in `open_entities`."""

    path: Path
    format: str = ""
    id_column: str = ""
    text_columns: tuple[str, ...] = ()
    delimiter: str = ""


class NewQueries(NamedTuple):
    """Queries to encode.

    Attributes:
      queries: Sequences, SMILES or texts.
      labels: Name of each query in the results; all differ.
    """

    queries: Sequence[Query]
    labels: Sequence[str]


def read_queries(file: QueryFile, node_type: str, encoder: QueryEncoder) -> NewQueries:
    """Reads what a node type is encoded from; rows without it give notices on standard error.

    Args:
      file: The file.
      node_type: Node type of the queries.
      encoder: Encoder of the dataset.

    Returns:
      The queries, named by their ids.

    Raises:
      InputError: The file cannot be read, has another modality, or has no usable row.
    """
    path, modality = file.path, encoder.modality(node_type)
    format = file.format or detect_format(path)
    if format in INPUT_TYPES:
        try:
            encoder.check_modality(node_type, INPUT_TYPES[format])
        except InputError as e:
            raise InputError(f"{path}: read as {format}: {e}") from e
    entities = open_entities(
        path, format, file.id_column, file.text_columns, modality, file.delimiter
    )
    findings: list[Finding] = []
    rows, problems = [], []
    for row in entities.read(findings):
        if row.text:
            rows.append(row)
        else:
            problems.append(f"row {row.row} ({row.id}): {row.reason or f'no {modality}'}")
    problems += [f"row {f.row}: {f.reason}" for f in findings]
    _print_notices(path, problems)
    if not rows:
        raise InputError(f"{path}: no row has an id and a {modality}; give at least one")
    return NewQueries([row.text for row in rows], number_equal([row.id for row in rows]))


def drop_failed(
    path: Path, new: NewQueries, vectors: Sequence[np.ndarray | str]
) -> tuple[np.ndarray, list[str]]:
    """Leaves out the queries of a file that cannot be encoded, with notices.

    Args:
      path: The file.
      new: The queries.
      vectors: Their vectors, or the reasons why there is none.

    Returns:
      Embeddings `[n, dim]` of the others, and their labels.

    Raises:
      InputError: None can be encoded.
    """
    pairs = list(zip(new.labels, vectors, strict=True))
    problems = [f"{label}: {v}" for label, v in pairs if isinstance(v, str)]
    kept = [(label, v) for label, v in pairs if not isinstance(v, str)]
    if not kept:
        raise InputError(f"{path}: no row can be encoded; the first is {problems[0]}")
    _print_notices(path, [f"{problem}; left out" for problem in problems])
    return np.stack([v for _, v in kept]), [label for label, _ in kept]


def _print_notices(path: Path, problems: Sequence[str]) -> None:
    for problem in problems[:_MAX_NOTICES]:
        print(f"notice: {path}: {problem}", file=sys.stderr)
    if len(problems) > _MAX_NOTICES:
        print(f"notice: {path}: {len(problems) - _MAX_NOTICES:,} more like these", file=sys.stderr)
