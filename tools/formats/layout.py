"""First lines of a table of edges or nodes: its delimiter, its quote character and its header."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.delimited_text import find_layout
from bridge_jax.data.text_files import READ_ERRORS, open_text
from bridge_jax.errors import InputError

from .delimited import first_line


class TableLayout(NamedTuple):
    """Delimiter and header of a table.

    Attributes:
      delimiter: Field separator.
      quote: Quote character; "" for tabs, among which quotes are part of the text, unless the
        header is quoted.
      header: Fields of the header, without blanks and quotes.
    """

    delimiter: str
    quote: str
    header: list[str]


def read_layout(
    path: Path, delimiter: str = "", known_columns: Collection[str] = (), may_repeat: bool = False
) -> TableLayout:
    """Finds the layout of a plain or gzipped file.

    Args:
      path: The file.
      delimiter: Field separator, if the first line has it; default: found by `find_layout`.
      known_columns: See `find_layout`.
      may_repeat: See `find_layout`.

    Raises:
      InputError: The file is missing, empty or truncated, or a column occurs twice.
    """
    layout = find_layout(
        path,
        delimiter_in(path, delimiter),
        known_columns=known_columns,
        may_repeat=may_repeat,
    )
    is_quoted = layout.delimiter != "\t" or first_line(path).startswith('"')
    return TableLayout(layout.delimiter, '"' if is_quoted else "", layout.names)


def first_lines(path: Path, count: int) -> list[str]:
    """Returns up to some first lines of a plain or gzipped text file, without their line breaks.

    Raises:
      InputError: The file is missing, empty or truncated.
    """
    try:
        with open_text(path) as handle:
            lines = [handle.readline(1 << 20) for _ in range(count)]
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    return [line.decode(errors="replace").rstrip("\r\n") for line in lines if line]


def delimiter_in(path: Path, delimiter: str) -> str:
    """Returns a delimiter if the first line of a file has it, or else an empty string."""
    return delimiter if delimiter and delimiter in first_line(path) else ""
