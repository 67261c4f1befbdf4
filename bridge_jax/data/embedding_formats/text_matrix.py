"""CSV, TSV and word2vec text: one id and one vector of numbers per row."""

import csv
import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedIOBase, TextIOWrapper
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge_jax.data.embedding_formats.arrays import ID_NAMES
from bridge_jax.data.embedding_formats.base import (
    MatrixFile,
    ReadOptions,
    check_unpacked,
    file_state,
    named_errors,
    one_line,
    skip_and_group,
)
from bridge_jax.data.embedding_formats.ids import as_ids, find_encoding
from bridge_jax.errors import InputError, unknown

_DELIMITERS = (",", "\t", ";", "|", " ")
_MAX_LINE = 1 << 24  # characters
_MISSING = frozenset(("", "na", "nan", "n/a", "null", "none", "<na>"))
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_MANY_NUMBERS = 8  # a row with as many numbers is no table of features
_ROWS_BETWEEN_CHECKS = 1 << 14


class TextLayout(NamedTuple):
    """Columns of a text matrix.

    Attributes:
      delimiter: Delimiter of the fields.
      num_header_rows: Number of rows before the first vector.
      id_column: Position of the ids; None if there are none.
      columns: Positions of the numbers.
      num_fields: Number of fields in a row.
      num_rows: Number of rows that the header claims; None if it claims none.
      ids_are_whole: Whether only whole numbers are ids, as the column has no name.
    """

    delimiter: str
    num_header_rows: int
    id_column: int | None
    columns: tuple[int, ...]
    num_fields: int
    num_rows: int | None = None
    ids_are_whole: bool = False


class TextMatrixFile(MatrixFile):
    """A text file with one id and one vector per row."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Finds the columns and counts the rows.

        Args:
          path: The file, plain or gzipped.
          options: How the file is read.

        Raises:
          InputError: A row has another number of fields, or there are no ids or numbers.
        """
        self.path = path
        with named_errors(path):
            self._encoding, self.notices = find_encoding(path, opener(path))
            self._layout = find_layout(path, self._encoding, options)
            self.num_rows = self._count_rows(options)
        self.dim = len(self._layout.columns)
        self.fingerprint = file_state(path)

    def _count_rows(self, options: ReadOptions) -> int:
        count, size = 0, self.path.stat().st_size
        for count, _ in enumerate(self._rows(), 1):
            if count % _ROWS_BETWEEN_CHECKS == 0:
                unpacked = count * len(self._layout.columns) * 4
                check_unpacked(self.path, "its table", unpacked, size, options)
        claimed = self._layout.num_rows
        if claimed not in (None, count):
            raise EOFError(f"it has {count} vectors where its first line claims {claimed}")
        return count

    def _rows(self) -> Iterator[list[str]]:
        """Yields the fields of each row after the header."""
        layout = self._layout
        with open_text(self.path, self._encoding) as handle:
            rows = split_rows(_lines(handle, self.path), layout.delimiter)
            for number, fields in enumerate(islice(rows, layout.num_header_rows, None), 1):
                if len(fields) != layout.num_fields:
                    raise InputError(
                        f"{self.path}: row {number} has {len(fields)} fields where "
                        f"{layout.num_fields} are expected"
                    )
                yield fields

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        column = self._layout.id_column
        with named_errors(self.path):
            if column is None:
                for first in range(start, stop, block_size):
                    yield [str(i) for i in range(first, min(first + block_size, stop))]
                return
            ids = (fields[column] for fields in self._rows())
            for block in skip_and_group(ids, start, stop, block_size):
                if self._layout.ids_are_whole:
                    for text in block:
                        if not _WHOLE.fullmatch(text.strip()):
                            raise InputError(
                                f"{self.path}: {one_line(text)!r} in the first column is no whole "
                                "number; name the column of ids in a first row: id,…"
                            )
                yield as_ids(block, str(self.path))

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        columns, first_row = self._layout.columns, start
        for block in skip_and_group(self._rows(), start, stop, block_size):
            x = np.empty((len(block), len(columns)))
            for i, fields in enumerate(block):
                values = [fields[k] for k in columns]
                try:
                    x[i] = [float(v) for v in values]
                    if "_" in "".join(values):
                        raise ValueError("an underscore")
                except ValueError:
                    x[i] = [self._number(first_row + i, k, fields[k]) for k in columns]
            yield x
            first_row += len(block)

    def _number(self, row: int, column: int, text: str) -> float:
        if text.strip().lower() in _MISSING:
            return np.nan
        if not _is_number(text):
            raise InputError(
                f"{self.path}: row {row + 1}, field {column + 1}: {one_line(text, 40)!r} is no "
                "number"
            )
        return float(text)


def find_layout(path: Path, encoding: str, options: ReadOptions) -> TextLayout:
    """Finds the columns of a text matrix from its first two rows.

    Raises:
      InputError: The file has no rows of numbers, or its ids cannot be told.
    """
    first, second, delimiter = _first_rows(path, encoding)
    if len(first) == 2 and all(v.isdigit() for v in first) and len(second) == int(first[1]) + 1:
        columns = tuple(range(1, len(second)))
        return TextLayout(delimiter, 1, 0, columns, len(second), int(first[0]))
    data = second or first
    if second and len(first) == len(second) - 1:
        header = ["", *first]
    elif second and len(first) != len(second):
        raise InputError(
            f"{path}: its first row has {len(first)} fields and its second {len(second)}"
        )
    else:
        header = first if second and _is_header(first, second) else []
    text = [i for i, value in enumerate(data) if not _is_number(value)]
    numbers = [i for i in range(len(data)) if i not in text]
    names = [name.strip() for name in header]
    if repeated := [n for n, count in Counter(names).items() if count > 1 and n]:
        raise InputError(f"{path}: two columns are called {one_line(repeated[0])!r}; rename one")
    id_column = _id_column(path, names, text, [first, data], options)
    if options.key:
        raise InputError(f"{path}: --embedding-key is for arrays with names; a text file has none")
    if rest := [i for i in text if i != id_column]:
        name = names[rest[0]] if names else data[rest[0]]
        raise InputError(
            f"{path}: field {rest[0] + 1} ({one_line(name, 40)!r}) holds text; expected one column "
            "of ids and columns of numbers"
        )
    columns = tuple(i for i in numbers if i != id_column)
    if names and id_column != 0 and _is_row_number(names[0]):
        columns = tuple(i for i in columns if i != 0)
    if not columns:
        raise InputError(f"{path}: no columns of numbers; expected one row per id: id, x0, x1, …")
    if names:
        check_wide_names(path, [names[i] for i in columns], [])
    whole = id_column is not None and not text and not names
    return TextLayout(
        delimiter, int(bool(header)), id_column, columns, len(data), ids_are_whole=whole
    )


def _id_column(
    path: Path,
    names: list[str],
    text: list[int],
    rows: Sequence[Sequence[str]],
    options: ReadOptions,
) -> int | None:
    if options.id_key:
        if options.id_key not in names:
            raise unknown("column", options.id_key, names[:8], str(path))
        return names.index(options.id_key)
    lower = [n.lower() for n in names]
    if "id" in lower:
        return lower.index("id")
    if text:
        named = [i for i in text if names and lower[i] in ID_NAMES]
        return named[0] if len(named) == 1 else text[0]
    named = [i for i, n in enumerate(lower) if n in ID_NAMES]
    if len(named) == 1:
        return named[0]
    if names and _is_row_number(names[0]):
        return 0
    data = rows[-1]
    others_are_floats = not all(_WHOLE.fullmatch(v.strip()) for v in data[1:])
    if not names and others_are_floats and all(_WHOLE.fullmatch(r[0].strip()) for r in rows):
        return 0
    if not options.needs_ids:
        return None
    raise InputError(f"{path}: no column of ids; name it in a first row: id,…")


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    if any(_is_number(b) and not _is_number(a) for a, b in zip(first, second, strict=True)):
        return True
    if not first[0].strip() or any(a.strip().lower() in ID_NAMES for a in first):
        return True
    # Numbers as names: they rise, and the vectors below are no whole numbers or they are 0, 1, ….
    pairs = [(a.strip(), b) for a, b in zip(first, second, strict=True) if _is_number(b)]
    if not all(a.isascii() and a.isdigit() for a, _ in pairs) or len(pairs) == len(first):
        return False
    numbers = [int(a) for a, _ in pairs]
    rise = all(a < b for a, b in pairwise(numbers)) and len(numbers) > 1
    are_counted = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return rise and (are_counted or not all(_WHOLE.fullmatch(b.strip()) for _, b in pairs))


def _is_row_number(name: str) -> bool:
    """Whether pandas gives this name to its index."""
    return name == "" or name.lower() == "unnamed: 0"


def check_wide_names(path: Path, names: Sequence[str], whole: Sequence[str]) -> None:
    """Refuses other numbers beside the dimensions of a vector.

    Args:
      path: The file, for messages.
      names: Names of the columns of numbers, such as `0`, `1`, … or `dim_0`, `dim_1`, ….
      whole: Those of whole numbers.

    Raises:
      InputError: Most columns are numbered, but not all; or some hold whole numbers and have other
        names.
    """
    prefix = {n: m[1] for n in names if (m := re.fullmatch(r"(.*?)\d+", n.strip()))}
    common, count = (Counter(prefix.values()).most_common(1) or [("", 0)])[0]
    others = [n for n in names if prefix.get(n) != common]
    if others and (count >= max(3, len(names) // 2)):
        listed = ", ".join(repr(one_line(n, 40)) for n in others[:3])
        raise InputError(
            f"{path}: {listed} beside the {count} numbered columns '{one_line(common, 40)}0', …; "
            "remove the columns that are no dimension"
        )
    if others and whole:
        raise InputError(
            f"{path}: {one_line(whole[0], 40)!r} holds whole numbers; expected floats, or numbered "
            "columns"
        )


def looks_like_matrix(path: Path, options: ReadOptions) -> bool:
    """Returns whether a text file may hold embeddings, to judge by its first rows."""
    try:
        with named_errors(path):
            encoding, _ = find_encoding(path, opener(path), all_rows=False)
            first, second, _ = _first_rows(path, encoding)
            if sum(map(_is_number, second or first)) >= _MANY_NUMBERS:
                return True
            return bool(find_layout(path, encoding, options).columns) and len(second) > 2
    except InputError:
        return False


def _first_rows(path: Path, encoding: str) -> tuple[list[str], list[str], str]:
    """Returns the first two rows, and the delimiter that gives the most numbers."""
    with open_text(path, encoding) as handle:
        lines = list(islice((li for li in _lines(handle, path) if li.strip()), 8))
    best: tuple[int, list[str], list[str], str] = (0, [], [], ",")
    for delimiter in _DELIMITERS:
        try:
            rows = list(islice((r for r in split_rows(lines, delimiter)), 2))
        except ValueError:
            continue
        first, second = (*rows, [], [])[:2]
        count = sum(_is_number(v) for v in second or first if v.strip())
        if count > best[0]:
            best = count, first, second, delimiter
    if not best[0]:
        raise InputError(
            f"{path}: not a file of embeddings: no row of an id and numbers; expected id, x0, x1, …"
        )
    return best[1:]


def split_rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Splits lines into fields; blank lines are skipped.

    Raises:
      ValueError: A quote is left open at the end of a line.
    """
    if delimiter == " ":
        return (fields for line in lines if (fields := line.split()))
    return _csv_rows(lines, delimiter)


def _csv_rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for number, fields in enumerate(reader, 1):
            if reader.line_num != number:  # the rows up to the next quote would be lost
                raise ValueError(f"line {number}: a quote that is not closed in its line")
            if fields and (len(fields) > 1 or fields[0].strip()):
                yield fields
    except csv.Error as e:
        raise ValueError(f"line {reader.line_num}: {e}") from e


def _is_number(text: str) -> bool:
    if text.strip().lower() in _MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def opener(path: Path) -> Callable[[], BufferedIOBase]:
    """Returns a function that opens a plain or gzipped file."""
    with open(path, "rb") as handle:
        is_gzip = handle.read(2) == b"\x1f\x8b"
    if is_gzip:
        return lambda: gzip.open(path, "rb")
    return lambda: open(path, "rb")


def open_text(path: Path, encoding: str) -> TextIOWrapper:
    """Opens a plain or gzipped text file."""
    with open(path, "rb") as handle:
        is_gzip = handle.read(2) == b"\x1f\x8b"
    if is_gzip:
        return gzip.open(path, "rt", encoding=encoding)
    return open(path, encoding=encoding)


def _lines(handle: TextIOWrapper, path: Path) -> Iterator[str]:
    while line := handle.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise InputError(f"{path}: has a line of more than {_MAX_LINE:,} characters")
        yield line
