"""Layout of a delimited table: its delimiter and the names in its header."""

from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.text_files import READ_ERRORS, open_text
from bridge_jax.errors import InputError

from .delimited import first_line

_DELIMITERS = (",", "\t", ";", "|")


class TableLayout(NamedTuple):
    """Delimiter and header of a table.

    Attributes:
      delimiter: Field separator.
      quote: Quote character; "" for tabs, among which quotes are part of the text, unless the
        header is quoted.
      header: Fields of the first line, without blanks and quotes.
    """

    delimiter: str
    quote: str
    header: list[str]

    @classmethod
    def of_file(cls, path: Path, delimiter: str = "", preferred: str = "") -> "TableLayout":
        """Finds the layout of a plain or gzipped file by its first line.

        Args:
          path: The file.
          delimiter: Field separator, if the line has it; default: found.
          preferred: Separator to take if the line has it; default: the most frequent one.

        Raises:
          InputError: The file is missing, empty or truncated.
        """
        line = first_line(path)
        if not delimiter or delimiter not in line:
            delimiter = max(_DELIMITERS, key=line.count)
            if not line.count(delimiter) or (preferred and preferred in line):
                delimiter = preferred or ","
        is_quoted = delimiter != "\t" or line.lstrip("\ufeff").startswith('"')
        header = [f.strip(" \ufeff") for f in line.split(delimiter)]
        if is_quoted:
            header = [f.strip('"') for f in header]
        return cls(delimiter, '"' if is_quoted else "", header)


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
