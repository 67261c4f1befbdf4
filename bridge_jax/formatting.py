"""Tables as plain text and as Markdown."""

import io
import re
import shutil
import sys
from collections.abc import Sequence

_UNLIMITED = 10_000  # columns of a table that goes to a file or a pipe
# A spreadsheet also reads the full-width forms of these signs.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escape_control_characters(text: str) -> str:
    """Returns a text with control characters written as `\\x1b`, so that none is printed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u00a0" else ascii(c)[1:-1] for c in text)


def escape_formula(cell: object) -> object:
    """Returns a cell of a CSV file, with a leading `'` if a spreadsheet would run it as a formula.

    These are texts that start with `=`, `+`, `-`, `@`, a tab or a carriage return (OWASP, "CSV
    Injection"). Numbers, also as text, stay as they are.
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA_STARTS):
        return cell
    return cell if _NUMBER.fullmatch(cell) else f"'{cell}"


def text_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Lays out rows in aligned columns, numbers to the right, long cells wrapped on a terminal.

    Args:
      rows: Cells, one sequence per row, each as long as `header`. Floats show three decimals,
        integers thousands separators.
      header: Column titles.

    Returns:
      Lines without a trailing line break, no wider than the terminal if standard output is one.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rule = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(box=rule, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title, right in zip(header, _numeric(rows, header), strict=True):
        table.add_column(
            Text(title), justify="right" if right else "left", overflow="fold", vertical="bottom"
        )
    for row in rows:
        table.add_row(*(Text(format_cell(cell)) for cell in row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    # rich draws the rule under a column's padding too.
    return "\n".join(_shorten(line) if set(line) == {"-", " "} else line for line in lines)


def _shorten(rule: str) -> str:
    """Removes the last dash of every column of a rule but the last."""
    return rule.replace("- ", "  ")


def markdown_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Lays out rows as a Markdown table, padded so that it also reads as plain text.

    Args:
      rows: Cells, one sequence per row, each as long as `header`.
      header: Column titles.
    """
    cells = [[format_cell(c).replace("|", "\\|") for c in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    right = _numeric(rows, header)
    lines = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        for row in cells
    ]
    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def format_cell(value: object) -> str:
    """Formats one table cell: floats with three decimals, integers with thousands separators."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def format_optional(value: float | None) -> str:
    """Formats a float with three decimals; None gives an empty string."""
    return "" if value is None else f"{value:.3f}"


def _numeric(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[bool]:
    """Whether each column holds numbers only."""
    return [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(header))
    ]
