"""Reading of queries (ids, embeddings) from files; printing and writing of retrieval results."""

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
KNOWN_MODES = ("mark", "hide", "show")  # what to do with known facts


class Neighbour(NamedTuple):
    """One retrieved tail of a query.

    Attributes:
      query: Id of the head, or `embedding <row>` for a new embedding.
      rank: Rank among the query's results, from 1.
      id: Id of the tail.
      name: Name of the tail.
      score: The bridge's logit, as in evaluation: `scale * cosine + prior`.
      known: Split that contains this fact; empty if it is not known.
    """

    query: str
    rank: int
    id: str
    name: str
    score: float
    known: str


def read_ids(path: Path) -> list[str]:
    """Reads ids from a text file, one per line; empty lines are skipped.

    Raises:
      InputError: The file is not UTF-8 text, or contains no id.
    """
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: is not a text file: {e.reason} at byte {e.start}") from e
    ids = [i for i in ids if i]
    if not ids:
        raise InputError(f"{path}: contains no id; write one id per line")
    return ids


def read_embedding(path: Path) -> np.ndarray:
    """Reads a `[dim]` or `[n, dim]` array of floats from a .npy file; returns `[n, dim]`.

    Raises:
      InputError: The file cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as handle:
            x = np.lib.format.read_array(handle, allow_pickle=False)
    except (ValueError, EOFError) as e:
        reason = " ".join(str(e).split()) or "it is empty"
        raise InputError(f"{path}: is not a .npy file of numbers: {reason}") from e
    if x.ndim not in (1, 2) or not x.size or x.dtype.kind != "f":
        raise InputError(
            f"{path}: holds {x.dtype} of shape {list(x.shape)}; expected floats [dim] or [n, dim]"
        )
    return np.atleast_2d(x)


def check_writable(path: Path) -> None:
    """Checks, before anything is computed, that a file can be written.

    Raises:
      InputError: The nearest existing parent is not a folder, or is not writable.
    """
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: no permission for {parent}")


def as_text(results: Sequence[Neighbour], heads: NodeIndex, with_known: bool) -> str:
    """Formats results as one table per query, under the query's id and name.

    Args:
      results: Results, in the order of their queries.
      heads: Ids and names of the query's node type.
      with_known: Whether to show the column `known`.
    """
    names = dict(zip(heads.ids, heads.names, strict=True))
    columns = ("rank", "id", "name", "score", *(["known"] if with_known else []))
    tables = []
    for query, neighbours in groupby(results, key=lambda result: result.query):
        name = names.get(query, query)
        title = query if name == query else f"{query}  {name}"
        cells = [[getattr(neighbour, column) for column in columns] for neighbour in neighbours]
        tables.append(f"{title}\n{text_table(cells, columns)}")
    return "\n\n".join(tables)


def write(results: Sequence[Neighbour], path: Path) -> None:
    """Writes results as JSON, CSV or Parquet, atomically.

    Args:
      results: Results, one record each.
      path: File to write; its suffix, one of `SUFFIXES`, is the format.
    """
    if path.suffix == ".json":
        write_json(path, [result._asdict() for result in results])
        return
    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle)
                writer.writerow(Neighbour._fields)
                writer.writerows(results)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = zip(*results, strict=True)
            pq.write_table(pa.table(dict(zip(Neighbour._fields, columns, strict=True))), temporary)
