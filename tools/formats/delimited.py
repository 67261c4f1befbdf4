"""Streaming reader of delimited text files that accounts for every line.

Each line becomes either one row of every column or one reject. A field cannot contain a line
break: otherwise a quote that is not closed would swallow the lines that follow.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from bridge_jax.errors import InputError, unknown

from .files import open_decompressed

T = TypeVar("T")
_CHUNK_BYTES = 8 << 20  # parsed at a time
_UNCLOSED = "a quote that is not closed"


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


class Column(NamedTuple, Generic[T]):
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


@dataclass(frozen=True)
class DelimitedFile:
    """A delimited text file and the columns to read from it.

    Attributes:
      path: The file, plain or gzipped.
      columns: Names of the columns to read; all must be present.
      ignored: Names of further columns to expect; any other column gives a notice.
      delimiter: Field separator; default: a comma.
      quote: Quote character, or an empty string for none; default: a double quote.
      names: Names of all columns, for a file without a header.
    """

    path: Path
    columns: Sequence[str]
    ignored: Sequence[str] = ()
    delimiter: str = ","
    quote: str = '"'
    names: Sequence[str] = ()

    def header(self) -> list[str]:
        """Returns the names of all columns.

        Raises:
          InputError: The file is missing or empty, or a column is missing or occurs twice.
        """
        if self.names:
            names = list(self.names)
        else:
            line = first_line(self.path)
            names = [n.strip(self.quote + " \ufeff") for n in line.split(self.delimiter)]
        for name in self.columns:
            if name not in names:
                raise unknown("column", name, names, str(self.path))
            if names.count(name) > 1:
                raise InputError(f"{self.path}: column {name!r} occurs {names.count(name)} times")
        return names

    def chunks(self) -> Iterator[TableChunk]:
        """Reads the file.

        Yields:
          Chunks in file order, the first one empty; each line is a row or a reject of one of them.

        Raises:
          InputError: The file is missing, empty or truncated, or lacks a column.
        """
        names = self.header()
        extra = [n for n in names if n not in (*self.columns, *self.ignored)]
        notices = [Finding(self.path.name, 1, "unknown column", n, 0) for n in extra]
        line_number = 1
        try:
            with open_decompressed(self.path) as handle:
                if not self.names:
                    handle.readline()
                    line_number = 2
                yield self._empty_chunk([], notices)
                while lines := _read_lines(handle):
                    yield self._parse(lines, line_number, names)
                    line_number += len(lines)
        except (EOFError, OSError, zlib.error) as e:
            raise InputError(f"{self.path}: cannot be read to the end: {e}") from e

    def _parse(self, lines: list[bytes], line_number: int, names: list[str]) -> TableChunk:
        rejects: list[Finding] = []
        notices: list[Finding] = []
        rows = np.arange(line_number, line_number + len(lines))
        if not b"".join(lines).isascii():
            lines = [self._to_utf8(line, rows[i], notices) for i, line in enumerate(lines)]
        # Without a lone carriage return no line can hold two rows, so where there are as many rows
        # as lines, no quote has joined two lines either.
        lines, rows = self._drop(lines, rows, _has_return, "a carriage return", rejects)
        if self.quote and any(self.quote.encode() in line for line in lines):
            lines, rows = self._drop(lines, rows, self._is_unclosed, _UNCLOSED, rejects)
        tables = self._parse_lines(lines, rows, names, rejects) if lines else []
        if not tables:
            return self._empty_chunk(rejects, notices)
        from pyarrow import concat_tables

        kept = np.concatenate([r for r, _ in tables])
        columns = self._encode(concat_tables([t for _, t in tables]))
        return TableChunk(kept, columns, rejects, notices)

    def _drop(
        self,
        lines: list[bytes],
        rows: np.ndarray,
        is_bad: Callable[[bytes], bool],
        reason: str,
        rejects: list[Finding],
    ) -> tuple[list[bytes], np.ndarray]:
        bad = np.array([is_bad(line) for line in lines], bool)
        for i in np.flatnonzero(bad).tolist():
            rejects.append(self._reject(lines[i], rows[i], reason))
        return [line for line, b in zip(lines, bad, strict=True) if not b], rows[~bad]

    def _is_unclosed(self, line: bytes) -> bool:
        return line.count(self.quote.encode()) % 2 == 1

    def _reject(self, line: bytes, row: int, reason: str) -> Finding:
        return Finding(self.path.name, int(row), reason, line.decode().rstrip("\r\n"))

    def _parse_lines(
        self, lines: list[bytes], rows: np.ndarray, names: list[str], rejects: list[Finding]
    ) -> list[tuple[np.ndarray, Any]]:
        """Parses lines to Arrow tables.

        If the parser does not account for every line, the lines are halved until the one at fault
        is alone.

        Returns:
          Pairs of line numbers and the table of these lines.
        """
        import pyarrow as pa
        import pyarrow.csv as pacsv

        bad: list[Finding] = []

        def skip(row: pacsv.InvalidRow) -> Literal["skip", "error"]:
            reason = f"{row.actual_columns} fields where there should be {row.expected_columns}"
            if row.number is not None and row.number <= len(rows):
                bad.append(Finding(self.path.name, int(rows[row.number - 1]), reason, row.text))
            return "skip"

        try:
            table = pacsv.read_csv(
                BytesIO(b"".join(lines)),
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=2 * _CHUNK_BYTES + sum(map(len, lines[:1])),
                    column_names=[str(i) for i in range(len(names))],
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter, quote_char=self.quote or False,
                    ignore_empty_lines=False, invalid_row_handler=skip,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={str(i): pa.binary() for i in range(len(names))},
                    include_columns=[str(names.index(c)) for c in self.columns],
                    check_utf8=False, strings_can_be_null=False,
                ),
            )  # fmt: skip
            all_accounted = table.num_rows + len(bad) == len(lines)
        except pa.ArrowInvalid:
            all_accounted = False
        if all_accounted:
            rejects += bad
            return [(np.setdiff1d(rows, [f.row for f in bad], assume_unique=True), table)]
        if len(lines) == 1:
            rejects.append(self._reject(lines[0], rows[0], _UNCLOSED))
            return []
        half = len(lines) // 2
        return [
            *self._parse_lines(lines[:half], rows[:half], names, rejects),
            *self._parse_lines(lines[half:], rows[half:], names, rejects),
        ]

    def _to_utf8(self, line: bytes, row: int, notices: list[Finding]) -> bytes:
        try:
            line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
            reason = "not UTF-8, read as Latin-1"
            notices.append(Finding(self.path.name, int(row), reason, text.rstrip("\r\n"), 0))
            return text.encode()
        return line

    def _encode(self, table: Any) -> dict[str, Column[str]]:
        """Dictionary-encodes the columns of an Arrow table, with blanks stripped."""
        columns = {}
        for name, column in zip(self.columns, table.columns, strict=True):
            encoded = column.combine_chunks().dictionary_encode()
            values = [v.decode().strip() for v in encoded.dictionary.to_pylist()]
            codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            columns[name] = Column(values, codes)
        return columns

    def _empty_chunk(self, rejects: list[Finding], notices: list[Finding]) -> TableChunk:
        empty = np.zeros(0, np.int64)
        columns: dict[str, Column[str]] = {name: Column([], empty) for name in self.columns}
        return TableChunk(empty, columns, rejects, notices)


def first_line(path: Path) -> str:
    """Returns the first line of a plain or gzipped text file, without its line break.

    Raises:
      InputError: The file is missing, empty or truncated.
    """
    try:
        with open_decompressed(path) as handle:
            line = handle.readline(1 << 20)
    except (EOFError, OSError, zlib.error) as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    return line.decode(errors="replace").rstrip("\r\n")


def zip_columns(columns: Sequence[Column[str]]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Zips columns into one column of tuples.

    Args:
      columns: Columns of one length n.

    Returns:
      The distinct tuples, and the `[n]` code of each row.
    """
    codes = np.zeros(len(columns[0].codes), np.int64)
    first = codes
    for column in columns:  # renumbered each time, so that the products stay small
        keys = codes * max(len(column.values), 1) + column.codes
        _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
    rows = zip(*(c.codes[first].tolist() for c in columns), strict=True)
    values = [tuple(c.values[i] for c, i in zip(columns, r, strict=True)) for r in rows]
    return values, codes


def _has_return(line: bytes) -> bool:
    """Whether a line has a carriage return anywhere but in its line break."""
    return b"\r" in line and b"\r" in line.removesuffix(b"\n").removesuffix(b"\r")


def _read_lines(handle: IO[bytes]) -> list[bytes]:
    """Reads the next whole lines, each with its line break."""
    block = handle.read(_CHUNK_BYTES) + handle.readline()
    if block and not block.endswith(b"\n"):
        block += b"\n"
    if b"\r" not in block:
        return block.splitlines(keepends=True)
    # A lone carriage return ends no line here, as it would for splitlines.
    return [line + b"\n" for line in block.split(b"\n")[:-1]]
