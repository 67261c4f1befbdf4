"""Streaming reader of delimited text files that accounts for every line.

Each record becomes either one row of every column or one reject. A record is one line, or several
if a quoted field contains line breaks; a quote that is left open costs its own line only (see
`bridge_jax.data.delimited_text`).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bridge_jax.data.delimited_text import (
    CUT,
    LONE_RETURN,
    UNCLOSED,
    Layout,
    find_layout,
    is_utf8,
    join_lines,
    read_block,
    scan_lines,
    split_record,
    wrong_number,
)
from bridge_jax.data.table_chunk import Column, Finding, TableChunk, read_as
from bridge_jax.data.text_files import READ_ERRORS, decode_line, open_text
from bridge_jax.errors import InputError, unknown

_CHUNK_BYTES = 8 << 20  # parsed at a time
_CHUNK_LINES = 1 << 17


@dataclass(frozen=True)
class DelimitedFile:
    """A delimited text file and the columns to read from it.

    Attributes:
      path: The file, plain or gzipped.
      columns: Names of the columns to read; all must be present.
      ignored: Names of further columns to expect; any other column gives a notice.
      delimiter: Field separator; default: comma, tab, semicolon or pipe, as the header and the
        first rows have it.
      quote: Quote character, or an empty string for none; default: a double quote.
      names: Names of all columns, for a file without a header.
    """

    path: Path
    columns: Sequence[str]
    ignored: Sequence[str] = ()
    delimiter: str = ""
    quote: str = '"'
    names: Sequence[str] = ()

    def layout(self) -> Layout:
        """Returns the delimiter and the names of all columns.

        Raises:
          InputError: The file is missing or empty, or a column is missing or occurs twice.
        """
        known = (*self.columns, *self.ignored)
        layout = find_layout(self.path, self.delimiter, self.quote, self.names, known)
        for name in self.columns:
            if name not in layout.names:
                raise unknown("column", name, layout.names, str(self.path))
        return layout

    def header(self) -> list[str]:
        """Returns the names of all columns.

        Raises:
          InputError: The file is missing or empty, or a column is missing or occurs twice.
        """
        return self.layout().names

    def chunks(self) -> Iterator[TableChunk]:
        """Reads the file.

        Yields:
          Chunks in file order, the first one empty; each record is a row or a reject of one of
          them.

        Raises:
          InputError: The file is missing, empty or truncated, or lacks a column.
        """
        layout = self.layout()
        name = self.path.name
        extra = [n for n in layout.names if n not in (*self.columns, *self.ignored)]
        notices = [Finding(name, 1, "unknown column", n, 0) for n in extra]
        if layout.encoding:
            reason, text = read_as(layout.encoding), layout.delimiter.join(layout.names)
            notices.append(Finding(name, 1, reason, text, 0))
        parser = _Parser(self, layout)
        try:
            with open_text(self.path) as handle:
                for _ in range(layout.num_header_lines):
                    handle.readline()
                yield parser.empty_chunk([], notices)
                unsettled = b""
                while True:
                    block, is_cut = read_block(handle, _CHUNK_BYTES, self.path)
                    at_end = is_cut or not block
                    *pieces, last = _pieces(unsettled + block)
                    unsettled = b""
                    for piece in pieces:
                        chunk, unsettled = parser.parse(unsettled + piece, False, False)
                        yield chunk
                    if unsettled + last:
                        chunk, unsettled = parser.parse(unsettled + last, at_end, is_cut)
                        yield chunk
                    if at_end:
                        return
        except READ_ERRORS as e:
            raise InputError(f"{self.path}: cannot be read to the end: {e}") from e


def _pieces(block: bytes) -> list[bytes]:
    """Splits whole lines into pieces of at most `_CHUNK_LINES`; there is at least one."""
    pieces = []
    if block.count(b"\n") > _CHUNK_LINES:
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
        cuts = [0, *ends[_CHUNK_LINES - 1 :: _CHUNK_LINES].tolist()]
        pieces = [block[i:j] for i, j in itertools.pairwise(cuts)]
        block = block[cuts[-1] :]
    return [*pieces, block] if block or not pieces else pieces


class _Parser:
    """Parses the blocks of a file one after the other."""

    def __init__(self, file: DelimitedFile, layout: Layout) -> None:
        self.file = file
        self.layout = layout
        self.line_number = layout.num_header_lines + 1  # of the next line
        self.cut_row = 0  # number of the last line, if it has no line end
        self.rejects: list[Finding] = []
        self.notices: list[Finding] = []
        self.records: list[tuple[int, bytes]] = []  # with line breaks, and their first lines

    def parse(self, block: bytes, at_end: bool, is_cut: bool) -> tuple[TableChunk, bytes]:
        """Parses whole lines.

        Args:
          block: The lines, each with a line feed.
          at_end: Whether the file ends with them.
          is_cut: Whether the last line had no line feed in the file.

        Returns:
          The chunk, and the lines at the end whose record goes on in the next block.
        """
        self.rejects, self.notices, self.records = [], [], []
        ends, odd, lone_returns = scan_lines(block, self.file.quote)
        rows = np.arange(self.line_number, self.line_number + len(ends))
        self.cut_row = int(rows[-1]) if is_cut else 0
        tables = None
        unsettled = b""
        if not len(odd) and not len(lone_returns) and is_utf8(block):
            tables = self._parse_block(block, rows)
        if tables is None:
            starts = [0, *ends[:-1].tolist()]
            lines = [block[i:j] for i, j in zip(starts, ends.tolist(), strict=True)]
            unsettled = self._take_out_records(lines, rows, odd, lone_returns, at_end)
            kept = np.array([bool(line) for line in lines])
            lines = [line for line in lines if line]
            tables = self._parse_lines(lines, rows[kept]) if lines else []
            tables += self._records_table()
        self.line_number += len(ends) - unsettled.count(b"\n")
        if not tables:
            return self.empty_chunk(self.rejects, self.notices), unsettled
        from pyarrow import concat_tables

        numbers = np.concatenate([r for r, _ in tables])
        table = concat_tables([t for _, t in tables])
        if self.records:
            order = np.argsort(numbers)
            numbers, table = numbers[order], table.take(order)
        return TableChunk(numbers, self._encode(table), self.rejects, self.notices), unsettled

    def empty_chunk(self, rejects: list[Finding], notices: list[Finding]) -> TableChunk:
        """Returns a chunk without usable rows."""
        empty = np.zeros(0, np.int64)
        columns: dict[str, Column[str]] = {name: Column([], empty) for name in self.file.columns}
        return TableChunk(empty, columns, rejects, notices)

    def _take_out_records(
        self,
        lines: list[bytes],
        rows: np.ndarray,
        odd: np.ndarray,
        lone_returns: np.ndarray,
        at_end: bool,
    ) -> bytes:
        """Replaces lines that are not one record each by empty ones, and the rest by UTF-8.

        Records with line breaks go to `self.records`; no other parser sees them, so that a stray
        quote elsewhere cannot shift the rows.

        Returns:
          The lines at the end whose record goes on in the next block.
        """
        joined = join_lines(
            lines, odd.tolist(), len(self.layout.names), self.layout.delimiter, self.file.quote,
            at_end,
        )  # fmt: skip
        unsettled = b"".join(lines[joined.num_settled :])
        lines[joined.num_settled :] = [b""] * (len(lines) - joined.num_settled)
        for i, line in enumerate(lines):
            lines[i] = self._to_utf8(line, rows[i])
        for start, stop in joined.spans:
            self.records.append((int(rows[start]), b"".join(lines[start:stop])))
            lines[start:stop] = [b""] * (stop - start)
        for i in joined.unclosed:
            self._reject(lines[i], rows[i], UNCLOSED)
            lines[i] = b""
        for i in lone_returns.tolist():
            if not lines[i]:
                continue
            if split_record(lines[i], self.layout.delimiter, self.file.quote) is None:
                self._reject(lines[i], rows[i], LONE_RETURN)
            else:
                self.records.append((int(rows[i]), lines[i]))
            lines[i] = b""
        return unsettled

    def _records_table(self) -> list[tuple[np.ndarray, Any]]:
        """Returns the rows and the Arrow table of `self.records`, the records with line breaks."""
        import pyarrow as pa

        names, rows, values = self.layout.names, [], []
        for row, record in self.records:
            fields = split_record(record, self.layout.delimiter, self.file.quote) or []
            if len(fields) == len(names):
                rows.append(row)
                values.append([fields[names.index(column)] for column in self.file.columns])
            else:
                self._reject(record, row, wrong_number(len(fields), len(names)), len(fields))
        if not rows:
            return []
        columns = [pa.array(column, pa.binary()) for column in zip(*values, strict=True)]
        ids = [str(names.index(column)) for column in self.file.columns]
        return [(np.array(rows), pa.table(columns, names=ids))]

    def _reject(self, line: bytes, row: int | np.integer, reason: str, num_fields: int = 0) -> None:
        """Records a reject; the last line is said to be cut if it has too few fields."""
        row = int(row)
        if row == self.cut_row and num_fields < len(self.layout.names):
            reason = CUT
        text = decode_line(line)[0].rstrip("\r\n")
        self.rejects.append(Finding(self.file.path.name, row, reason, text))

    def _parse_lines(self, lines: list[bytes], rows: np.ndarray) -> list[tuple[np.ndarray, Any]]:
        """Parses lines that are one record each to Arrow tables.

        If the parser does not account for every record, they are halved until the one at fault is
        alone.

        Returns:
          Pairs of line numbers and the table of these records.
        """
        tables = self._parse_block(b"".join(lines), rows)
        if tables is not None:
            return tables
        if len(lines) == 1:
            fields = split_record(lines[0], self.layout.delimiter, self.file.quote)
            expected = len(self.layout.names)
            if fields is not None and len(fields) != expected:
                self._reject(lines[0], rows[0], wrong_number(len(fields), expected), len(fields))
            else:
                self._reject(lines[0], rows[0], UNCLOSED)
            return []
        half = len(lines) // 2
        return [
            *self._parse_lines(lines[:half], rows[:half]),
            *self._parse_lines(lines[half:], rows[half:]),
        ]

    def _parse_block(self, block: bytes, rows: np.ndarray) -> list[tuple[np.ndarray, Any]] | None:
        """Parses lines that are one record each to an Arrow table.

        A quote that Arrow takes for open merges lines, and nothing divides one. As many rows as
        lines therefore mean that each line is a row. Otherwise, returns None.
        """
        import pyarrow as pa
        import pyarrow.csv as pacsv

        names, file = self.layout.names, self.file
        wrong: list[tuple[bytes, int, int]] = []

        def skip(row: pacsv.InvalidRow) -> Literal["skip", "error"]:
            if row.number is not None and row.number <= len(rows):
                wrong.append((row.text.encode(), int(rows[row.number - 1]), row.actual_columns))
            return "skip"

        try:
            table = pacsv.read_csv(
                BytesIO(block),
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1,
                    column_names=[str(i) for i in range(len(names))],
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.layout.delimiter, quote_char=file.quote or False,
                    ignore_empty_lines=False, invalid_row_handler=skip,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={str(i): pa.binary() for i in range(len(names))},
                    include_columns=[str(names.index(c)) for c in file.columns],
                    check_utf8=False, strings_can_be_null=False,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid:
            return None
        if table.num_rows + len(wrong) != len(rows):
            return None
        for line, row, num_fields in wrong:
            self._reject(line, row, wrong_number(num_fields, len(names)), num_fields)
        kept = np.setdiff1d(rows, [row for _, row, _ in wrong], assume_unique=True)
        return [(kept, table)]

    def _to_utf8(self, line: bytes, row: int | np.integer) -> bytes:
        if line.isascii():
            return line
        text, encoding = decode_line(line)
        if not encoding:
            return line
        reason = read_as(encoding)
        self.notices.append(Finding(self.file.path.name, int(row), reason, text.rstrip("\r\n"), 0))
        return text.encode()

    def _encode(self, table: Any) -> dict[str, Column[str]]:
        """Dictionary-encodes the columns of an Arrow table, with blanks stripped."""
        columns = {}
        for name, column in zip(self.file.columns, table.columns, strict=True):
            encoded = column.combine_chunks().dictionary_encode()
            values = [v.decode().strip() for v in encoded.dictionary.to_pylist()]
            codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            columns[name] = Column(values, codes)
        return columns


def first_line(path: Path) -> str:
    """Returns the first line of a plain or gzipped text file, without its line break.

    Raises:
      InputError: The file is missing, empty or truncated.
    """
    try:
        with open_text(path) as handle:
            line = handle.readline(1 << 20)
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    return decode_line(line)[0].rstrip("\r\n")


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
