"""Questions as files hold them, and answers as people and programs read them."""

import csv
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table
from bridge_jax.retrieval.node_names import NodeIndex

SUFFIXES = (".json", ".csv", ".parquet")
KNOWN = ("mark", "hide", "show")  # what becomes of known facts


class Neighbour(NamedTuple):
    """One answer.

    Attributes:
      query: id of the head; `embedding <row>` of a new one.
      rank: from 1.
      id: of the tail.
      name: of the tail.
      score: the bridge's logit, as evaluation ranks it: `scale * cosine + prior`.
      known: the split whose facts hold this pair, or nothing.
    """

    query: str
    rank: int
    id: str
    name: str
    score: float
    known: str


def read_ids(path: Path) -> list[str]:
    """Read one id a line; empty lines do not count.

    Raises:
      InputError: no such file, no text, or no id in it.
    """
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: is no text: {e.reason} at byte {e.start}") from e
    ids = [i for i in ids if i]
    if not ids:
        raise InputError(f"{path}: no id in this file; it holds one a line")
    return ids


def read_embedding(path: Path) -> np.ndarray:
    """Read a `[dim]` or `[n, dim]` array of floats from a .npy file; returns `[n, dim]`.

    Raises:
      InputError: the file cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as handle:
            x = np.lib.format.read_array(handle, allow_pickle=False)
    except (ValueError, EOFError) as e:
        reason = " ".join(str(e).split()) or "it is empty"
        raise InputError(f"{path}: is no .npy file of numbers: {reason}") from e
    if x.ndim not in (1, 2) or not x.size or x.dtype.kind != "f":
        raise InputError(
            f"{path}: holds {x.dtype} of shape {list(x.shape)}; expected floats [dim] or [n, dim]"
        )
    return np.atleast_2d(x)


def check_writable(path: Path) -> None:
    """Refuse a place where nothing can be written, before anything is computed.

    Raises:
      InputError: the nearest folder that exists is none, or may not be written.
    """
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: no permission for {parent}")


def as_text(rows: Sequence[Neighbour], nodes: NodeIndex, marked: bool) -> str:
    """One table for each query, headed by its id and name among `nodes`; `marked`: known facts."""
    names = dict(zip(nodes.ids, nodes.names, strict=True))
    parts = []
    for query, found in groupby(rows, key=lambda row: row.query):
        name = names.get(query, query)
        head = query if name == query else f"{query}  {name}"
        columns = ("rank", "id", "name", "score", *(["known"] if marked else []))
        cells = [[getattr(row, column) for column in columns] for row in found]
        parts.append(f"{head}\n{text_table(cells, columns)}")
    return "\n\n".join(parts)


def write(rows: Sequence[Neighbour], path: Path) -> None:
    """Write answers as JSON, CSV or Parquet, by the name's ending, atomically.

    Args:
      rows: the answers.
      path: ends in one of `SUFFIXES`.
    """
    records = [row._asdict() for row in rows]
    if path.suffix == ".json":
        write_json(path, records)
        return
    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle)
                writer.writerow(Neighbour._fields)
                writer.writerows(rows)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = zip(*rows, strict=True)
            pq.write_table(pa.table(dict(zip(Neighbour._fields, columns, strict=True))), temporary)
