"""Stream a delimited text file in blocks of columns, and lose no line of it without a word.

Every line is either one row of every column or one finding. A field cannot hold a line break: a
quote that is not closed on its line would swallow the lines after it.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from bridge_jax.errors import InputError, unknown

from .edges import Block, Column, Finding
from .files import open_text

_BLOCK = 8 << 20  # bytes parsed at a time


@dataclass(frozen=True)
class Table:
    """A delimited file.

    Attributes:
      path: the file, plain or gzipped.
      columns: the columns to read; they must be there.
      ignored: further columns that are expected; any other is a notice.
      delimiter: between fields.
      quote: the character that quotes a field, or empty for none.
      names: names of the columns of a file without a header.
    """

    path: Path
    columns: Sequence[str]
    ignored: Sequence[str] = ()
    delimiter: str = ","
    quote: str = '"'
    names: Sequence[str] = ()

    def header(self) -> list[str]:
        """The names of all columns.

        Raises:
          InputError: the file is missing or empty, or lacks a column or has it twice.
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
                raise InputError(f"{self.path}: column {name!r} is there {names.count(name)} times")
        return names

    def blocks(self) -> Iterator[Block]:
        """Read the file.

        Yields:
          Blocks in the order of the file; each line is a row or a reject of one of them.

        Raises:
          InputError: the file is missing, empty, cut, or lacks a column.
        """
        names = self.header()
        odd = [n for n in names if n not in (*self.columns, *self.ignored)]
        notices = [Finding(self.path.name, 1, "unknown column", n, 0) for n in odd]
        first = 1
        try:
            with open_text(self.path) as handle:
                if not self.names:
                    handle.readline()
                    first = 2
                yield Block(np.zeros(0, np.int64), self._columns(None), [], notices)
                while lines := _lines(handle):
                    yield self._parse(lines, first, names)
                    first += len(lines)
        except (EOFError, OSError, zlib.error) as e:
            raise InputError(f"{self.path}: cannot be read to the end: {e}") from e

    def _parse(self, lines: list[bytes], first: int, names: list[str]) -> Block:
        rejects: list[Finding] = []
        notices: list[Finding] = []
        rows = np.arange(first, first + len(lines))
        if not b"".join(lines).isascii():
            lines = [self._utf8(line, rows[i], notices) for i, line in enumerate(lines)]
        # Without a lone carriage return no line can hold two rows, so where there are as many rows
        # as lines, no quote has joined two lines either.
        lines, rows = self._drop(lines, rows, _has_return, "a carriage return", rejects)
        if self.quote and any(self.quote.encode() in line for line in lines):
            reason = "a quote that is not closed"
            lines, rows = self._drop(lines, rows, self._unclosed, reason, rejects)
        tables = self._tables(lines, rows, names, rejects) if lines else []
        if not tables:
            return Block(np.zeros(0, np.int64), self._columns(None), rejects, notices)
        from pyarrow import concat_tables

        kept = np.concatenate([r for r, _ in tables])
        whole = concat_tables([t for _, t in tables])
        return Block(kept, self._columns(whole), rejects, notices)

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
            text = lines[i].decode().rstrip("\r\n")
            rejects.append(Finding(self.path.name, int(rows[i]), reason, text))
        return [line for line, b in zip(lines, bad, strict=True) if not b], rows[~bad]

    def _unclosed(self, line: bytes) -> bool:
        return line.count(self.quote.encode()) % 2 == 1

    def _tables(
        self, lines: list[bytes], rows: np.ndarray, names: list[str], rejects: list[Finding]
    ) -> list[tuple[np.ndarray, Any]]:
        """Parse lines; where lines and rows do not agree, halve until the culprit is alone."""
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
                    use_threads=False, block_size=2 * _BLOCK + sum(map(len, lines[:1])),
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
            agrees = table.num_rows + len(bad) == len(lines)
        except pa.ArrowInvalid:
            agrees = False
        if agrees:
            rejects += bad
            return [(np.setdiff1d(rows, [f.row for f in bad], assume_unique=True), table)]
        if len(lines) == 1:
            text = lines[0].decode().rstrip("\r\n")
            rejects.append(
                Finding(self.path.name, int(rows[0]), "a quote that is not closed", text)
            )
            return []
        half = len(lines) // 2
        return [
            *self._tables(lines[:half], rows[:half], names, rejects),
            *self._tables(lines[half:], rows[half:], names, rejects),
        ]

    def _utf8(self, line: bytes, row: int, notices: list[Finding]) -> bytes:
        try:
            line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
            reason = "not UTF-8, read as Latin-1"
            notices.append(Finding(self.path.name, int(row), reason, text.rstrip("\r\n"), 0))
            return text.encode()
        return line

    def _columns(self, table: Any) -> dict[str, Column]:
        if table is None:
            return {name: Column([], np.zeros(0, np.int64)) for name in self.columns}
        out = {}
        for name, column in zip(self.columns, table.columns, strict=True):
            encoded = column.combine_chunks().dictionary_encode()
            values = [v.decode().strip() for v in encoded.dictionary.to_pylist()]
            codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            out[name] = Column(values, codes)
        return out


def first_line(path: Path) -> str:
    """The first line of a text file, plain or gzipped.

    Raises:
      InputError: the file is missing, empty or cut.
    """
    try:
        with open_text(path) as handle:
            line = handle.readline(1 << 20)
    except (EOFError, OSError, zlib.error) as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    return line.decode(errors="replace").rstrip("\r\n")


def _has_return(line: bytes) -> bool:
    return b"\r" in line and b"\r" in line.removesuffix(b"\n").removesuffix(b"\r")


def _lines(handle: IO[bytes]) -> list[bytes]:
    """The next block of whole lines; a line may be empty but for its end."""
    block = handle.read(_BLOCK) + handle.readline()
    if block and not block.endswith(b"\n"):
        block += b"\n"
    return block.splitlines(keepends=True) if b"\r" not in block else _split(block)


def _split(block: bytes) -> list[bytes]:
    """Split at line feeds alone: a lone carriage return ends no line."""
    return [line + b"\n" for line in block.split(b"\n")[:-1]]
