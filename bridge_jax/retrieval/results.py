"""Reading of queries (ids, embeddings) from files; printing and writing of retrieval results."""

import csv
import io
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.embedding_files import DEFAULT, ReadOptions, open_embedding_file
from bridge_jax.data.embedding_formats.base import ID_BLOCK
from bridge_jax.data.embedding_formats.ids import TextLines
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.errors import InputError
from bridge_jax.formatting import escape_formula, text_table
from bridge_jax.retrieval.explanations import Explanation
from bridge_jax.retrieval.node_names import NodeIndex

SUFFIXES = (".json", ".csv", ".parquet")
ANSWERS = ("fusion", "bridge", "knn")  # what answers
KNOWN_MODES = ("mark", "hide", "show")  # what to do with known facts


class Neighbour(NamedTuple):
    """One retrieved tail of a query.

    Attributes:
      query: Id of the head, or `embedding <row>` for a new embedding.
      rank: Rank among the query's results, from 1.
      id: Id of the tail.
      name: Name of the tail.
      probability: Probability among all candidates.
      percentile: Share of the candidates that do not rank before it, in percent.
      confidence: Share of answers of this probability that were facts of the validation split; None
        for a known fact, and where it was not measured.
      known: Split that contains this fact; empty if it is not known.
      score: What the results are ordered by: the log-probability, or for the answer `bridge` the
        logit `scale * cosine + prior`, as in evaluation.
    """

    query: str
    rank: int
    id: str
    name: str
    probability: float
    percentile: float
    confidence: float | None
    known: str
    score: float


class Neighbours(list[Neighbour]):
    """Retrieved tails of one or several queries: a list that becomes a table.

    Example:
      >>> bridge.retrieve("gene/protein", target="disease", names="BRCA1").to_pandas()
    """

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with a row for each neighbour.

        Raises:
          InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as e:
            raise InputError("to_pandas needs pandas: pip install pandas") from e
        return pd.DataFrame(list(self), columns=list(Neighbour._fields))

    def by_query(self) -> "list[Neighbours]":
        """Returns the neighbours of each query, in the order of the queries."""
        starts = [i for i, neighbour in enumerate(self) if neighbour.rank == 1]
        return [Neighbours(self[i:j]) for i, j in pairwise([*starts, len(self)])]


def read_ids(path: Path) -> list[str]:
    """Reads ids from a text file, one per line; empty lines are skipped.

    UTF-8 and UTF-16 are read, and Latin-1 with a notice; a blank within an id is kept.

    Raises:
      InputError: The file is not text, or contains no id.
    """
    lines = TextLines(path)
    for notice in lines.notices:
        print(f"notice: {notice}", file=sys.stderr)
    ids = [i for block in lines.blocks(0, lines.count, ID_BLOCK) for i in block if i]
    if not ids:
        raise InputError(f"{path}: contains no id; write one id per line")
    return ids


def read_embedding(path: Path, options: ReadOptions = DEFAULT) -> np.ndarray:
    """Reads embeddings from a file of any format that is imported; ids are not needed.

    Args:
      path: The file; of `.npy`, `.pt` and `.safetensors` a single vector `[dim]` too.
      options: How it is read if its content does not decide.

    Returns:
      `[n, dim]` floats.

    Raises:
      InputError: The file cannot be read, or holds something else.
    """
    file = open_embedding_file(path, replace(options, needs_ids=False))
    dim = file.dim or file.first_dim()
    chunks = []
    for block in file.blocks(0, file.num_rows, ID_BLOCK, dim):
        for row in sorted(block.faults):
            raise InputError(
                f"{path}: row {block.first_row + row}: {block.faults[row]}; encode it again"
            )
        chunks.append(block.x)
    if not chunks or not dim:
        raise InputError(f"{path}: holds no vector; expected floats [dim] or [n, dim]")
    return np.concatenate(chunks)


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
    with_confidence = any(result.confidence is not None for result in results)
    columns = [
        "rank", "id", "name", "probability", "percentile",
        *(["confidence"] if with_confidence else []), *(["known"] if with_known else []),
    ]  # fmt: skip
    tables = []
    for neighbours in Neighbours(results).by_query():
        query = neighbours[0].query
        name = names.get(query, query)
        title = query if name == query else f"{query}  {name}"
        cells = [
            {
                **neighbour._asdict(),
                "probability": format_probability(neighbour.probability),
                "percentile": f"{neighbour.percentile:.2f}",
                "confidence": format_share(neighbour.confidence),
            }
            for neighbour in neighbours
        ]
        rows = [[cell[column] for column in columns] for cell in cells]
        tables.append(f"{title}\n{text_table(rows, columns)}")
    return "\n\n".join(tables)


def format_share(share: float | None) -> str:
    """Formats a share as `62 %`; None gives an empty string."""
    return "" if share is None else f"{100 * share:.0f} %"


def format_probability(probability: float) -> str:
    """Formats a probability with two significant digits, e.g. `0.42` or `0.00031`."""
    if probability < 1e-6:
        return "< 0.000001"
    digits = max(2, 1 - math.floor(math.log10(probability)))
    return f"{probability:.{digits}f}"


def as_csv(results: Sequence[Neighbour]) -> str:
    """Formats results as CSV that a spreadsheet can open: no cell is run as a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Neighbour._fields)
    writer.writerows(map(escape_formula, result) for result in results)
    return text.getvalue()


def write(
    results: Sequence[Neighbour], path: Path, explanations: Sequence[Explanation] = ()
) -> None:
    """Writes results as JSON, CSV or Parquet, atomically.

    Args:
      results: Results, one record each.
      path: File to write; its suffix, one of `SUFFIXES`, is the format.
      explanations: Explanation of each result, for JSON; default: none.
    """
    if path.suffix == ".json":
        records = [result._asdict() for result in results]
        for record, explanation in zip(records, explanations, strict=False):
            record["explanation"] = explanation.to_json()
        write_json(path, records)
        return
    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            temporary.write_bytes(as_csv(results).encode("utf-8"))
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = zip(*results, strict=True)
            pq.write_table(pa.table(dict(zip(Neighbour._fields, columns, strict=True))), temporary)
