"""Findings take bounded memory, and their numbers of rows still sum to all rows."""

from bridge_jax.data.findings import MAX_REASONS, MAX_TEXT, Findings, num_rows
from bridge_jax.data.table_chunk import Finding


def test_the_first_are_listed_and_the_rest_is_added_up() -> None:
    findings = Findings(max_listed=3)
    findings += [Finding("a", i, "bad", "x") for i in range(10)]
    findings.append(Finding("a", 10, "worse", "y"))
    findings.append(Finding("a", 11, "bad", "z", 0))  # a notice
    assert [(f.row, f.reason, f.num_rows) for f in findings] == [
        (0, "bad", 1), (1, "bad", 1), (2, "bad", 1), (3, "bad", 7), (10, "worse", 1),
        (11, "bad", 0),
    ]  # fmt: skip
    assert findings[3].text == "this and 6 later rows that are not listed"
    assert num_rows(findings) == 11


def test_reasons_without_end_take_no_memory() -> None:
    findings = Findings((Finding("a", i, f"reason {i}", "x") for i in range(5000)), max_listed=10)
    assert len(findings) == 10 + MAX_REASONS + 1
    assert findings[-1].reason == "other reasons"
    assert num_rows(findings) == 5000


def test_a_long_row_is_shortened() -> None:
    (finding,) = Findings([Finding("a", 1, "bad", "x" * 9999)])
    assert finding.text == "x" * (MAX_TEXT - 1) + "…"
