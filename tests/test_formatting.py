"""Tables as text and as Markdown."""

import io
import sys

import pytest

from bridge_jax.formatting import escape_formula, markdown_table, text_table

ROWS = [["biological_process", 1234, 0.25], ["a [bold]|pipe", 7, 1.0]]
HEADER = ["task", "queries", "MRR"]


def test_a_text_table_aligns_numbers_to_the_right_and_keeps_brackets():
    lines = text_table(ROWS, HEADER).splitlines()
    assert lines[0].split() == HEADER
    assert set(lines[1]) == {"-", " "}
    assert lines[2].endswith("1,234 0.250") or lines[2].endswith("1,234  0.250")
    assert "a [bold]|pipe" in lines[3]
    assert len({len(line) for line in lines}) == 1


def test_a_text_table_without_rows_has_its_header():
    assert text_table([], HEADER).splitlines()[0].split() == HEADER


def test_a_text_table_is_no_wider_than_the_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "24")
    lines = text_table([["word " * 20, 1]], ["text", "n"]).splitlines()
    assert max(map(len, lines)) <= 24
    assert " ".join(lines).count("word") == 20


def test_a_markdown_table_escapes_pipes_and_marks_numeric_columns():
    lines = markdown_table(ROWS, HEADER).splitlines()
    assert lines[1].endswith(":|") or lines[1].endswith(": |")
    assert "\\|pipe" in lines[3]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@SUM(1)", "\tx", "\rx", "-1+1", "＝1", "-"])
def test_a_text_that_a_spreadsheet_would_run_is_quoted(text):
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["-1.5", "+2", "-.5e-3", "a=b", "", "'=1", -1.5, 3, None])
def test_numbers_and_other_texts_are_not_quoted(cell):
    assert escape_formula(cell) is cell
