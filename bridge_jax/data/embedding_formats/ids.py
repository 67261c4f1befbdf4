"""Ids as text: normalised, and read from text files in any common encoding."""

import codecs
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.base import ID_BLOCK, named_errors
from bridge_jax.errors import InputError

_WHOLE_FLOAT = re.compile(r"([+-]?[0-9]+)\.0+")
_MAX_LINE = 1 << 16  # characters of one id
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def as_ids(values: Any, where: str) -> list[str]:
    """Returns ids as text: stripped, in Unicode's form NFC, whole-valued floats as whole numbers.

    Args:
      values: Array or list of text, UTF-8 bytes, whole numbers or whole-valued floats. None and NaN
        become "".
      where: File and name of the array, for the error message.

    Raises:
      InputError: A value is something else.
    """
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "SUiufO":
            raise InputError(f"{where} must be text or whole numbers, not {values.dtype}")
        if values.dtype.kind == "f":
            _check_exact(values, where)
        values = values.tolist()
    return [_as_id(v, where) for v in values]


def _as_id(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as e:
            raise InputError(f"{where}: the id {value!r} is not UTF-8; save the ids as text") from e
    if isinstance(value, float):
        if value != value:
            return ""
        if not value.is_integer():
            raise InputError(f"{where} must be text or whole numbers, not {value!r}")
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where} must be text or whole numbers, not {value!r}")
    text = str(value).strip()
    if text[-1:] == "0" and (number := _WHOLE_FLOAT.fullmatch(text)):
        return number[1]
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _check_exact(values: np.ndarray, where: str) -> None:
    """Refuses floats so large that neighbouring whole numbers are the same float."""
    limit = 2 ** (np.finfo(values.dtype).nmant + 1)
    with np.errstate(invalid="ignore"):
        large = values[np.abs(values) >= limit]
    if large.size:
        raise InputError(
            f"{where}: the id {large[0]} as {values.dtype} is not exact from {limit:,} on; save "
            "the ids as text"
        )


class TextLines:
    """Lines of a text file in UTF-8, UTF-16 or Latin-1, with any line ends.

    Attributes:
      path: Path of the file.
      encoding: Encoding as found.
      notices: A notice if the file is neither UTF-8 nor UTF-16.
    """

    def __init__(self, path: Path) -> None:
        """Finds the encoding; reads the whole file once, in bounded memory."""
        self.path = path
        self.encoding, self.notices = find_encoding(path)
        self._positions: list[Any] = []  # of every `ID_BLOCK`-th line
        self.count = 0
        num_lines = 0
        with self._open() as handle, named_errors(path):
            while True:
                if num_lines % ID_BLOCK == 0:
                    self._positions.append(handle.tell())
                line = _read_line(handle, path)
                if not line:
                    break
                num_lines += 1
                if line.strip():
                    self.count = num_lines  # blank lines at the end are no ids

    def blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        """Yields the ids of lines `start` to `stop` in lists of `block_size`."""
        with named_errors(self.path), self._open() as handle:
            if self._positions and start:
                handle.seek(self._positions[start // ID_BLOCK])
            for _ in range(start % ID_BLOCK):
                _read_line(handle, self.path)
            for first in range(start, stop, block_size):
                count = min(block_size, stop - first)
                lines = [_read_line(handle, self.path) for _ in range(count)]
                yield as_ids(lines, str(self.path))

    def _open(self) -> io.TextIOWrapper:
        return open(self.path, encoding=self.encoding)


def _read_line(handle: io.TextIOWrapper, path: Path) -> str:
    line = handle.readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
        raise InputError(f"{path}: has a line of more than {_MAX_LINE:,} characters; not ids")
    return line


def find_encoding(
    path: Path, open_binary: Callable[[], io.BufferedIOBase] | None = None, all_rows: bool = True
) -> tuple[str, list[str]]:
    """Returns the encoding of a text file, and a notice if it is a guess.

    Args:
      path: The file.
      open_binary: Opens its bytes; default: as they are.
      all_rows: Whether to read the whole file; else its first bytes decide.

    Raises:
      InputError: The file is binary.
    """
    with open_binary() if open_binary else open(path, "rb") as handle:
        start = handle.read(1 << 12)
    if encoding := encoding_of(start):
        return encoding, []
    if b"\0" in start:
        raise InputError(f"{path}: is not a text file: a zero byte at {start.index(0)}")
    if all_rows:
        with open_binary() if open_binary else open(path, "rb") as handle:
            rows = list(_rows_not_utf8(handle))
    else:
        rows = list(_rows_not_utf8(io.BytesIO(start)))
    if not rows:
        return "utf-8", []
    where = f"line {rows[0]}" + (f" and {len(rows) - 1} more" if rows[1:] else "")
    return "latin-1", [f"{path.name}: not UTF-8 in {where}; read as Latin-1"]


def encoding_of(start: bytes) -> str:
    """Returns the encoding that the first bytes of a text show; empty if they show none."""
    for bom, encoding in _BOMS.items():
        if start.startswith(bom):
            return encoding
    low, high = start[::2], start[1::2]
    for encoding, zeros, others in (("utf-16-le", high, low), ("utf-16-be", low, high)):
        few = 0.1 * len(others)
        if zeros and zeros.count(0) >= 0.9 * len(zeros) and others.count(0) < few:
            return encoding
    return ""


def _rows_not_utf8(stream: io.BufferedIOBase) -> Iterator[int]:
    """Yields the rows that are not UTF-8, in bounded memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    row = 1
    while line := stream.readline(1 << 20):
        ends = line.endswith(b"\n")
        try:
            decoder.decode(line, final=ends)
        except UnicodeDecodeError:
            decoder.reset()
            yield row
        row += ends


def first_duplicate(ids: Iterable[str]) -> tuple[str, int, int] | None:
    """Returns the first id that occurs twice, with both rows; None if all are distinct."""
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        if rows.setdefault(name, row) != row:
            return name, rows[name], row
    return None
