"""What every graph format is read into, and the streaming reader they share."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bridge_jax.errors import InputError, unknown


class Node(NamedTuple):
    """A node as an edge file names it."""

    type: str
    id: str
    index: str
    name: str


class Reject(NamedTuple):
    """A row that cannot be used: its number in the file (the header is row 1), why, and text."""

    row: int
    reason: str
    text: str


@dataclass
class Edges:
    """A source's edges as codes into its own vocabularies.

    Attributes:
      nodes: every node that a row names, in order of appearance.
      relations: relation names, in order of appearance.
      head: `[rows]` index into `nodes`.
      relation: `[rows]` index into `relations`.
      tail: `[rows]` index into `nodes`.
      row: `[rows]` row number in the file, from 1 with the header.
      rejects: rows that could not be parsed.
    """

    nodes: list[Node] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    head: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    relation: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    row: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    rejects: list[Reject] = field(default_factory=list)


class Codes(NamedTuple):
    """One block's column as codes into its distinct values."""

    values: list[str]
    codes: np.ndarray


def read_blocks(
    path: Path, columns: Sequence[str], delimiter: str = ",", block_bytes: int = 16 << 20
) -> Iterator[tuple[np.ndarray, dict[str, Codes], list[Reject]]]:
    """Stream some columns of a delimited text file, plain or gzipped.

    Args:
      path: the file; its first row names the columns.
      columns: the columns to read; others are ignored.
      delimiter: between fields.
      block_bytes: how much text is parsed at a time.

    Yields:
      Row numbers, the columns, and the rows with a wrong number of fields, block by block.

    Raises:
      InputError: the file is missing, empty, cut, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv

    bad: list[Reject] = []

    def skip(row: "pacsv.InvalidRow") -> str:
        reason = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        bad.append(Reject(row.number or 0, reason, row.text))
        return "skip"

    with open_text(path) as handle:
        header = handle.readline().decode(errors="replace").rstrip("\r\n").split(delimiter)
    header = [name.strip('"\ufeff') for name in header]
    for name in columns:
        if name not in header:
            raise unknown("column", name, header, str(path))
    try:
        with open_text(path) as handle:
            reader = pacsv.open_csv(
                handle,
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=block_bytes, column_names=header, skip_rows=1
                ),
                parse_options=pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.binary()),
                    include_columns=list(columns),
                    check_utf8=False,
                    strings_can_be_null=False,
                ),
            )
            number = 2
            for batch in reader:
                taken = {name: _codes(batch.column(name)) for name in columns}
                skipped = np.array(sorted(r.row for r in bad), np.int64)
                rows = np.arange(number, number + batch.num_rows + len(skipped))
                rows = np.setdiff1d(rows, skipped, assume_unique=True)[: batch.num_rows]
                number = int(rows[-1]) + 1 if len(rows) else number
                yield rows, taken, bad.copy()
                bad.clear()
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, OSError) as e:
        raise InputError(f"{path}: cannot be read to the end: {e}") from e
    if bad:
        yield np.zeros(0, np.int64), {n: Codes([], np.zeros(0, np.int64)) for n in columns}, bad


def open_text(path: Path) -> IO[bytes]:
    """Open a plain or gzipped file for reading bytes; gzip is recognised by its first bytes."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as handle:
        magic = handle.read(64)
    if magic.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: this is a Git LFS pointer: run `git lfs pull`")
    if not magic:
        raise InputError(f"{path}: the file is empty")
    return gzip.open(path, "rb") if magic[:2] == b"\x1f\x8b" else open(path, "rb")  # type: ignore[return-value]


def _codes(column: "object") -> Codes:
    encoded = column.dictionary_encode()  # type: ignore[attr-defined]
    values = [decode(v) for v in encoded.dictionary.to_pylist()]
    return Codes(values, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))


def decode(raw: bytes) -> str:
    """UTF-8, or Latin-1 where a source mixes encodings; surrounding blanks are dropped."""
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip()


class Vocabulary:
    """Distinct keys in order of appearance; codes are positions."""

    def __init__(self) -> None:
        self.codes: dict[tuple[str, ...], int] = {}

    def add(self, *columns: Codes) -> tuple[np.ndarray, list[int]]:
        """Code the rows of a block by the combination of some of its columns.

        Returns:
          `[rows]` codes, and the first row of each combination that is new.
        """
        combined = np.zeros(len(columns[0].codes), np.int64)
        for column in columns:
            combined = combined * max(len(column.values), 1) + column.codes
        _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
        local = np.empty(len(first), np.int64)
        new = []
        for place in np.argsort(first, kind="stable").tolist():
            row = int(first[place])
            key = tuple(c.values[c.codes[row]] for c in columns)
            if key not in self.codes:
                self.codes[key] = len(self.codes)
                new.append(row)
            local[place] = self.codes[key]
        return local[inverse], new


Reader = Callable[[Path], Edges]
