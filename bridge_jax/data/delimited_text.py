"""Delimited text as people have it: delimiter, header, quoted line breaks and open quotes.

A record is one row of a table. It is one line, or several if a quoted field contains line breaks
(RFC 4180, as pandas and spreadsheets write them). A quote that is left open must not swallow the
lines that follow. Lines are therefore joined only if the result is a valid record, and not if each
of them would be a row by itself.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge_jax.data.text_files import READ_ERRORS, decode_line, open_text, read_line
from bridge_jax.errors import InputError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
UNCLOSED = "a quote that is not closed"
CUT = "the file seems cut: download it again"
LONE_RETURN = "a carriage return"

_MAX_RECORD_BYTES = 1 << 20  # of a record that spans lines
_MAX_TABLE_BYTES = 1 << 30  # of a table that is read at once
_SAMPLE_LINES = 50
_SAMPLE_BYTES = 1 << 20


class Layout(NamedTuple):
    """How the columns of a file are written.

    Attributes:
      names: Column names; a line break in one is a blank.
      delimiter: Field separator, one character.
      num_header_lines: Number of lines of the header; 0 if there is none.
      encoding: Encoding of a header that is not UTF-8, or an empty string.
    """

    names: list[str]
    delimiter: str
    num_header_lines: int
    encoding: str


class JoinedLines(NamedTuple):
    """How the lines with an odd number of quotes form records.

    Attributes:
      spans: First line and end of each record of several lines.
      unclosed: Lines with a quote that is not closed.
      num_settled: Number of lines that are settled; the next one opens a quote, and the line that
        may close it has not been read yet.
    """

    spans: list[tuple[int, int]]
    unclosed: list[int]
    num_settled: int


class Row(NamedTuple):
    """A row of a table, or a row that cannot be used.

    Attributes:
      number: Number of its first line, from 1.
      fields: Text of each column; empty if the row cannot be used.
      reason: Why it cannot be used; empty if it can.
    """

    number: int
    fields: list[str]
    reason: str


def parse_delimiter(text: str) -> str:
    """Returns the field separator that a user named; empty if it is to be found.

    Args:
      text: A character, one of the names in `DELIMITERS`, `\\t`, or an empty string.

    Raises:
      InputError: The text is neither.
    """
    names = {name: character for character, name in DELIMITERS.items()} | {"\\t": "\t", "": ""}
    delimiter = names.get(text, text)
    if len(delimiter) > 1 or not delimiter.isascii() or delimiter in ('"', "\n", "\r", "\0"):
        raise InputError(
            f"--delimiter {text!r}: give one character, or {', '.join(DELIMITERS.values())}"
        )
    return delimiter


def find_layout(
    path: Path,
    delimiter: str = "",
    quote: str = '"',
    names: Sequence[str] = (),
    known_columns: Collection[str] = (),
    may_repeat: bool = False,
) -> Layout:
    """Finds the delimiter and the columns of a file.

    Args:
      path: Text file, plain or gzipped.
      delimiter: Field separator; default: the one of `DELIMITERS` that fits the header and the
        first rows.
      quote: Quote character, or an empty string for none; default: a double quote.
      names: Names of all columns of a file without a header; default: there is a header.
      known_columns: Names that the header is expected to have, to tell the delimiter by.
      may_repeat: Whether a name may occur twice, as in a first line that may be a row.

    Raises:
      InputError: The file cannot be read, or a column name occurs twice.
    """
    lines = _sample(path)
    best: tuple[tuple[float, ...], Layout] | None = None
    for character in [delimiter] if delimiter else DELIMITERS:
        layout = _read_header(path, lines, character, quote, names)
        score = _score(layout, lines, quote, known_columns)
        if best is None or score > best[0]:
            best = score, layout
    assert best is not None
    layout = best[1]
    for name in layout.names:
        if name and layout.names.count(name) > 1 and not may_repeat:
            raise InputError(
                f"{path}: column {name!r} occurs {layout.names.count(name)} times; rename or "
                "remove all but one"
            )
    return layout


def _sample(path: Path) -> list[bytes]:
    """Returns the first lines of a file, each with a line feed."""
    lines: list[bytes] = []
    try:
        with open_text(path) as handle:
            while len(lines) < _SAMPLE_LINES and (line := handle.readline(_SAMPLE_BYTES)):
                lines.append(line if line.endswith(b"\n") else line + b"\n")
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    if not b"".join(lines).strip():
        raise InputError(f"{path}: the file is empty")
    return lines


def _read_header(
    path: Path, lines: list[bytes], delimiter: str, quote: str, names: Sequence[str]
) -> Layout:
    if names:
        return Layout(list(names), delimiter, 0, "")
    num_lines, quotes = 1, lines[0].count(quote.encode()) if quote else 0
    while quotes % 2 and num_lines < len(lines):
        quotes += lines[num_lines].count(quote.encode())
        num_lines += 1
    fields = None if quotes % 2 else split_record(b"".join(lines[:num_lines]), delimiter, quote)
    if fields is None:  # a quote is left open, or is followed by text
        num_lines, fields = 1, lines[0].rstrip(b"\r\n").split(delimiter.encode())
    text, encoding = decode_line(b"\0".join(fields))
    if "\r" in text and num_lines == 1:
        raise InputError(
            f"{path}: line 1 has {LONE_RETURN} in it, so the line ends are mixed; save the file "
            "with one kind of line end"
        )
    columns = [" ".join(n.strip(f"{quote} \ufeff").splitlines()) for n in text.split("\0")]
    return Layout(columns, delimiter, num_lines, encoding)


def _score(
    layout: Layout, lines: list[bytes], quote: str, known_columns: Collection[str]
) -> tuple[float, ...]:
    """How well a layout fits the first lines; larger is better."""
    rows = lines[layout.num_header_lines :]
    fields = [split_record(line, layout.delimiter, quote) for line in rows]
    num_right = sum(f is not None and len(f) == len(layout.names) for f in fields)
    known = {name.casefold() for name in known_columns}
    num_known = len(known & {name.casefold() for name in layout.names})
    several = len(layout.names) > 1 or layout.num_header_lines == 0
    share = num_right / len(rows) if rows and several else 0.0
    return float(num_known), float(several), round(share, 1), float(len(layout.names))


@cache
def _field_pattern(delimiter: bytes, quote: bytes) -> "re.Pattern[bytes]":
    d, q = re.escape(delimiter), re.escape(quote)
    quoted = b"%b((?:[^%b]|%b%b)*)%b" % (q, q, q, q, q)
    return re.compile(b"(?:%b|([^%b\r\n%b][^%b\r\n]*)|)(%b|\\Z)" % (quoted, d, q, d, d))


def split_record(record: bytes, delimiter: str, quote: str) -> list[bytes] | None:
    """Splits a record into its fields.

    Args:
      record: One or several lines; a line break at the end is dropped.
      delimiter: Field separator.
      quote: Quote character, or an empty string for none.

    Returns:
      The fields without their quotes; None if a quote is left open or is followed by text, or if a
      line break is not in quotes.
    """
    record = record.removesuffix(b"\n").removesuffix(b"\r")
    d, q = delimiter.encode(), quote.encode()
    if not q or q not in record:
        return None if b"\n" in record or b"\r" in record else record.split(d)
    pattern = _field_pattern(d, q)
    fields: list[bytes] = []
    position = 0
    while match := pattern.match(record, position):
        quoted, plain, end = match.groups()
        fields.append((plain or b"") if quoted is None else quoted.replace(q + q, q))
        if not end:
            return fields
        position = match.end()
    return None


def join_lines(
    lines: Sequence[bytes],
    odd: Sequence[int],
    num_fields: int,
    delimiter: str,
    quote: str,
    at_end: bool,
) -> JoinedLines:
    """Joins lines to records where a quoted field contains line breaks.

    Args:
      lines: Consecutive lines of a file; a record starts with the first one.
      odd: Indices of the lines with an odd number of quotes.
      num_fields: Number of columns.
      delimiter: Field separator.
      quote: Quote character.
      at_end: Whether the file ends with the last line.
    """
    spans: list[tuple[int, int]] = []
    unclosed: list[int] = []
    k = 0
    while k < len(odd):
        start = odd[k]
        stop = odd[k + 1] + 1 if k + 1 < len(odd) else len(lines)
        fits = sum(map(len, lines[start:stop])) <= _MAX_RECORD_BYTES
        if k + 1 == len(odd) and fits and not at_end:
            return JoinedLines(spans, unclosed, start)
        if (
            k + 1 < len(odd)
            and fits
            and _is_record(lines[start:stop], num_fields, delimiter, quote)
        ):
            spans.append((start, stop))
            k += 2
        else:
            unclosed.append(start)
            k += 1
    return JoinedLines(spans, unclosed, len(lines))


def _is_record(lines: Sequence[bytes], num_fields: int, delimiter: str, quote: str) -> bool:
    """Whether lines, of which the first opens a quote that the last closes, are one record."""
    fields = split_record(b"".join(lines), delimiter, quote)
    if fields is None:
        return False
    looks_like_row = [_looks_like_row(line, num_fields, delimiter) for line in lines]
    if len(fields) != num_fields:
        return not any(looks_like_row)
    # That lines of prose have by chance as many delimiters as a row is unlikely from four on.
    for i, j in ((0, len(lines)), (1, len(lines) - 1)):
        if j - i >= 1 and all(looks_like_row[i:j]):
            return (j - max(i, 1)) * (num_fields - 1) < 4
    return True


def _looks_like_row(line: bytes, num_fields: int, delimiter: str) -> bool:
    """Whether a line has as many fields as a row, none of them empty or, as in prose, indented."""
    fields = line.split(delimiter.encode())
    return len(fields) == num_fields and all(f and not f[:1].isspace() for f in fields)


def read_rows(path: Path, layout: Layout, quote: str = '"') -> Iterator[Row]:
    """Reads a small table row by row.

    Args:
      path: Text file, plain or gzipped.
      layout: Layout that `find_layout` found.
      quote: Quote character; default: a double quote.

    Yields:
      Each row of the file, usable or not.

    Raises:
      InputError: The file cannot be read to the end.
    """
    try:
        with open_text(path) as handle:
            raw = handle.read(_MAX_TABLE_BYTES)
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read to the end: {e}") from e
    if len(raw) == _MAX_TABLE_BYTES:
        raise InputError(f"{path}: larger than {_MAX_TABLE_BYTES >> 20} MiB; give a smaller table")
    is_cut = not raw.endswith(b"\n")
    lines = [line + b"\n" for line in raw.removesuffix(b"\n").split(b"\n")]
    lines = lines[layout.num_header_lines :]
    odd = [i for i, line in enumerate(lines) if line.count(quote.encode()) % 2]
    joined = join_lines(lines, odd, len(layout.names), layout.delimiter, quote, at_end=True)
    end_of = dict(joined.spans)
    i = 0
    while i < len(lines):
        stop = end_of.get(i, i + 1)
        fields = split_record(b"".join(lines[i:stop]), layout.delimiter, quote)
        reason = ""
        if fields is None or i in joined.unclosed:
            reason = UNCLOSED if quote.encode() in lines[i] else LONE_RETURN
        elif len(fields) != len(layout.names):
            reason = wrong_number(len(fields), len(layout.names))
        if reason and is_cut and stop == len(lines) and len(fields or ()) < len(layout.names):
            reason = CUT
        text = [] if reason or fields is None else [decode_line(f)[0].strip() for f in fields]
        yield Row(i + layout.num_header_lines + 1, text, reason)
        i = stop


def wrong_number(num_fields: int, expected: int) -> str:
    """Returns the reason for a row with more or fewer fields than the header."""
    return f"{num_fields} fields where there should be {expected}"


def read_block(handle: BufferedIOBase, size: int, path: Path) -> tuple[bytes, bool]:
    """Reads whole lines.

    Args:
      handle: Text, as `open_text` opens it.
      size: Minimum number of bytes to read.
      path: Path of the file, for the error message.

    Returns:
      The lines, each with a line feed, and whether the last one of the file had none.
    """
    block = handle.read(size)
    if block and not block.endswith(b"\n"):
        block += read_line(handle, path)
    if block and not block.endswith(b"\n"):
        return block + b"\n", True
    return block, False


def is_utf8(block: bytes) -> bool:
    """Returns whether bytes are valid UTF-8."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def scan_lines(block: bytes, quote: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds what may keep the lines of a block from being one record each.

    Args:
      block: Lines, each with a line feed.
      quote: Quote character, or an empty string for none.

    Returns:
      The end of each line, the indices of the lines with an odd number of quotes, and of those with
      a carriage return that is not part of the line end.
    """
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n")) + 1
    odd = lone_returns = np.zeros(0, np.int64)
    if quote and quote.encode() in block:
        quotes = np.flatnonzero(data == ord(quote))
        counts = np.diff(np.searchsorted(quotes, ends), prepend=0)
        odd = np.flatnonzero(counts % 2)
    if b"\r" in block:
        returns = np.flatnonzero(data == ord("\r"))
        lone = returns[data[returns + 1] != ord("\n")]
        lone_returns = np.unique(np.searchsorted(ends, lone, side="right"))
    return ends, odd, lone_returns
