"""Rows of a table as the readers hand them over, and what they found wrong with the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")


class Finding(NamedTuple):
    """A reject or a notice: a row that cannot be used, or an oddity that costs no row.

    Attributes:
      file: File name.
      row: Line number, from 1.
      reason: What is wrong, e.g. `no relation`.
      text: The row, or the part of it that is wrong.
      num_rows: Number of edge rows that are lost; 0 for a notice.
    """

    file: str
    row: int
    reason: str
    text: str
    num_rows: int = 1


@dataclass(frozen=True, eq=False)
class Column(Generic[T]):
    """Dictionary-encoded column: row i has the value `values[codes[i]]`.

    Attributes:
      values: The values; nearly all are distinct.
      codes: `[n]` int64 indices into `values`.
    """

    values: Sequence[T]
    codes: np.ndarray


class TableChunk(NamedTuple):
    """Consecutive lines of a file, parsed.

    Attributes:
      rows: `[n]` int64 line numbers of the usable rows, from 1.
      columns: Columns of length n, by name.
      rejects: Lines that cannot be parsed.
      notices: Oddities that cost no line.
    """

    rows: np.ndarray
    columns: dict[str, Column[str]]
    rejects: list[Finding]
    notices: list[Finding]


def read_as(encoding: str) -> str:
    """Returns the reason of a notice for text that is not UTF-8."""
    return f"not UTF-8, read as {encoding}"
