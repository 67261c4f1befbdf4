"""Property of the reader: no row is lost, and each id keeps the text that stood beside it."""

import csv
import io
import itertools
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.formats.delimited import DelimitedFile, Finding
from tools.formats.features import FeatureColumns, read_features

ALPHABET = "abcXYZ019 ,;|\t\"\n'()=#-é"
COLUMNS = FeatureColumns("id", "name", ("smiles",))
IDS = st.text('abcNA:019 ,;|\t"é', min_size=1, max_size=6).map(str.strip).filter(bool)
TEXTS = st.text(ALPHABET, max_size=12).map(str.strip)


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[list[tuple[str, str, str]], bytes]:
    """Rows of id, name and SMILES column, and the bytes of a file that Python's `csv` writes."""
    ids = draw(st.lists(IDS, unique=True, min_size=1, max_size=12))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    rows = [(i, draw(TEXTS), draw(TEXTS)) for i in ids]
    if line_end == "\r":  # a line feed anywhere is the sign that the lines end otherwise
        rows = [tuple(field.replace("\n", "\r") for field in row) for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=draw(st.sampled_from([",", "\t", ";", "|"])),
        lineterminator=line_end,
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    order = draw(st.permutations(range(3)))
    for row in [("id", "name", "smiles"), *rows]:
        writer.writerow([row[i] for i in order])
    text = out.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix(line_end)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]))
    return rows, text.encode(encoding)


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(written_tables())
def test_what_is_written_is_read(table: tuple[list[tuple[str, str, str]], bytes]) -> None:
    rows, raw = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drug.csv"
        path.write_bytes(raw)
        findings: list[Finding] = []
        read = list(read_features(path, COLUMNS, missing_values=(), findings=findings))
    assert [f for f in findings if f.num_rows] == []
    assert [(r.id, r.name, normal(r.text)) for r in read] == [
        (i, normal(name), normal(text)) for i, name, text in rows
    ]


NOISE = st.sampled_from(['"', ",", "\n", "\r", '""', '","', '"\r"', '"\n', '\n"', "\0", "é", "x"])


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 999), NOISE), max_size=12))
def test_a_damaged_file_loses_no_line(num_rows: int, damage: list[tuple[int, str]]) -> None:
    """Each line is in a row or a reject, and a sound line gives its own row."""
    sound = [f"{i},name of {i},C{i}" for i in range(num_rows)]
    body = "\n".join(sound) + "\n"
    for position, text in damage:
        body = body[: position % len(body)] + text + body[position % len(body) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drug.csv"
        path.write_bytes(f"id,name,smiles\n{body}".encode())
        chunks = list(DelimitedFile(path, ("id", "smiles")).chunks())
    lines = body.removesuffix("\n").split("\n")
    rows = [r for c in chunks for r in c.rows.tolist()]
    assert rows == sorted(rows)
    numbers = sorted([*rows, *(f.row for c in chunks for f in c.rejects)])
    assert numbers[0] == 2
    for row, following in itertools.pairwise([*numbers, len(lines) + 2]):
        assert following > row  # a record of several lines opens a quote in the first one
        assert following == row + 1 or '"' in lines[row - 2]
    read = [
        tuple(column.values[column.codes[k]] for column in c.columns.values())
        for c in chunks
        for k in range(len(c.rows))
    ]
    for row, fields in zip(rows, read, strict=True):
        if lines[row - 2] in sound:
            assert fields == (lines[row - 2].split(",")[0], lines[row - 2].split(",")[2])
