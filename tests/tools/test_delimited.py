"""The streaming reader: every line of a file becomes a row or a finding, whatever it contains."""

import bz2
import gzip
import itertools
import lzma
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data import delimited_file as delimited
from bridge_jax.data import text_files
from bridge_jax.errors import InputError
from tests.helpers.tiny_run import EXCERPT
from tools.formats import FORMATS
from tools.formats.delimited import DelimitedFile, Finding

KG_HEADER = EXCERPT.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"a,b\n1,2\n", "column 'x_type' is not in"),
        (gzip.compress(EXCERPT.read_bytes())[:900], "cannot be read"),
        (KG_HEADER.replace("x_source", "x_id").encode(), "'x_id' occurs 2 times"),
    ],
)
def test_an_unreadable_file_says_why(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "kg.csv"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=message):
        FORMATS["primekg"](path)
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        FORMATS["primekg"](tmp_path / "none.csv")


@pytest.mark.parametrize("chunk_bytes", [64, 1000, 1 << 20])
def test_every_line_is_a_row_or_a_finding_for_any_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    """Inserts random bytes that mean something to a CSV parser into and between sound rows."""
    monkeypatch.setattr(delimited, "_CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(chunk_bytes)
    alphabet = [b'"', b",", b"\n", b"\r", b"\r\n", b"\xe9", b"\xc3\xa9", b"\0", b"x", b" ", b'""']
    path = tmp_path / "t.csv"
    for _ in range(40):
        lines = [b"%d,%d,row" % (i, i) for i in range(60)]
        for i in rng.integers(0, 60, 8):
            noise = b"".join(alphabet[k] for k in rng.integers(0, len(alphabet), 4))
            cut = rng.integers(0, len(lines[i]))
            lines[i] = lines[i][:cut] + noise + lines[i][cut:]
        body = b"\n".join(lines) + b"\n" * int(rng.integers(0, 2))
        path.write_bytes(b"a,b,c\n" + body)
        chunks = list(DelimitedFile(path, ("c", "a")).chunks())
        rows = np.concatenate([c.rows for c in chunks]).tolist()
        rejected = [f.row for c in chunks for f in c.rejects]
        lines = body.removesuffix(b"\n").split(b"\n")
        numbers = sorted(rows + rejected)
        assert numbers[0] == 2
        for row, following in itertools.pairwise([*numbers, len(lines) + 2]):
            assert following > row  # a record of several lines opens a quote in the first one
            assert following == row + 1 or b'"' in lines[row - 2]
        for chunk in chunks:
            for row, code in zip(chunk.rows, chunk.columns["a"].codes, strict=True):
                sound = b"%d,%d,row" % (row - 2, row - 2)
                if body.split(b"\n")[row - 2] == sound:
                    assert chunk.columns["a"].values[code] == str(row - 2)


def read(path: Path, *columns: str) -> tuple[list[tuple[str, ...]], list[Finding]]:
    """The rows of a file with their line numbers first, and its rejects and notices."""
    rows, findings = [], []
    for chunk in DelimitedFile(path, columns).chunks():
        values = [[c.values[k] for k in c.codes] for c in chunk.columns.values()]
        rows += list(zip(chunk.rows.tolist(), *values, strict=True))
        findings += [*chunk.rejects, *chunk.notices]
    return rows, findings


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", ",\t;|")
def test_encoding_line_end_and_delimiter_are_found(
    tmp_path: Path, encoding: str, line_end: str, delimiter: str
) -> None:
    text = 'id|name|smiles~1|"a, b; c"|CCO~2|Ménière|CCN~'.replace("|", delimiter)
    path = write(tmp_path / "drug.txt", text.replace("~", line_end).encode(encoding))
    rows = [(2, "1", "a, b; c", "CCO"), (3, "2", "Ménière", "CCN")]
    assert read(path, "id", "name", "smiles") == (rows, [])
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read(path, "id", "name", "smiles") == (rows, [])


@pytest.mark.parametrize(
    ("encoding", "name", "text"),
    [("latin-1", "Latin-1", "Ménière"), ("cp1252", "Windows-1252", "Crohn’s – a disease")],
)
def test_another_encoding_is_a_notice_with_its_row(
    tmp_path: Path, encoding: str, name: str, text: str
) -> None:
    path = write(tmp_path / "d.csv", f"id,name\n1,flu\n2,{text}\n".encode(encoding))
    rows, (notice,) = read(path, "id", "name")
    assert rows == [(2, "1", "flu"), (3, "2", text)]
    assert notice == Finding("d.csv", 3, f"not UTF-8, read as {name}", f"2,{text}", 0)
    header = write(tmp_path / "h.csv", f"id,{text}\n1,flu\n".encode(encoding))
    assert [f.row for f in read(header, "id", text)[1]] == [1]


def test_a_quoted_line_break_as_pandas_writes_it_is_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    names = ["a\nb", 'says "x",\r\n\r\nthen y', "plain", "\n\n", 'end"']
    frame = pandas.DataFrame({"id": range(5), "name": names, "x": list("abcde")})
    frame.to_csv(tmp_path / "d.csv", index=False)
    rows, findings = read(tmp_path / "d.csv", "name", "x", "id")
    assert findings == []
    assert [r[1:] for r in rows] == [
        (n.strip(), x, str(i)) for i, (n, x) in enumerate(zip(names, "abcde", strict=True))
    ]
    assert [r[0] for r in rows] == [2, 4, 7, 8, 11]


@pytest.mark.parametrize("chunk_bytes", [16, 1 << 20])
def test_an_open_quote_swallows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(delimited, "_CHUNK_BYTES", chunk_bytes)
    lines = ['1,"a,CCO', "2,b,CC", '3,"c, d",C', '4,"e,N', '5,"f\ng",O', "6,h,CN", '7,"i,CS']
    path = write(tmp_path / "d.csv", "\n".join(["id,name,smiles", *lines, ""]))
    rows, findings = read(path, "id", "name", "smiles")
    assert [r[:2] for r in rows] == [(3, "2"), (4, "3"), (6, "5"), (8, "6")]
    assert rows[2][2] == "f\ng"
    assert [(f.row, f.reason) for f in findings] == [
        (n, "a quote that is not closed") for n in (2, 5, 9)
    ]


def test_rows_between_two_stray_quotes_are_not_one_field(tmp_path: Path) -> None:
    lines = ['0,a,"CCO', *(f"{i},b,CC" for i in range(1, 9)), '9,c,CCN"']
    rows, findings = read(write(tmp_path / "d.csv", "\n".join(["id,n,s", *lines, ""])), "id", "s")
    assert [r[1] for r in rows] == [str(i) for i in range(1, 9)]
    assert [f.row for f in findings if f.num_rows] == [2, 11]


def test_a_row_of_another_length_is_a_reject(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", 'id,a,b\n1,x,y,z\n2,x\n3,x,y\n4,"x\nx",y,z,w\n')
    rows, findings = read(path, "id")
    assert rows == [(4, "3")]
    assert [(f.row, f.reason) for f in findings if f.num_rows] == [
        (2, "4 fields where there should be 3"),
        (3, "2 fields where there should be 3"),
        (5, "5 fields where there should be 3"),
    ]


@pytest.mark.parametrize("end", ["3,x", '3,x,"y', "3"])
def test_a_last_line_that_is_cut_is_said_to_be(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "d.csv", f"id,a,b\n1,x,y\n2,x,y\n{end}")
    rows, findings = read(path, "id")
    assert [r[1] for r in rows] == ["1", "2"]
    assert [f for f in findings if f.num_rows] == [
        Finding("d.csv", 4, "the file seems cut: download it again", end)
    ]
    rows, findings = read(write(path, "id,a,b\n1,x,y\n2,x,y"), "id")  # only no line end
    assert [r[1] for r in rows] == ["1", "2"]
    assert not any(f.num_rows for f in findings)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id,x,x", "column 'x' occurs 2 times; rename or remove"),
        ("\ufeffid,id,x", "column 'id' occurs 2 times"),
        ("i\rd,a,x", "line 1 has a carriage return in it"),
    ],
)
def test_an_ambiguous_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "d.csv", f"{header}\n1,2,3\n"), "x")


def test_a_header_may_be_quoted_and_span_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", '\ufeff"id;1";"the\nname";"a;b"\n1;x;y\n')
    assert read(path, "id;1", "the name", "a;b")[0] == [(3, "1", "x", "y")]


def other_formats(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files of other formats under the name of a table, and what the message says of each."""
    table = write(folder / "table.tsv", "id\tx\n1\t2\n")
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.write(table, "kg.csv")
    with zipfile.ZipFile(folder / "xlsx", "w") as archive:
        archive.write(table, "xl/workbook.xml")
    for mode in ("tar", "tgz"):
        with tarfile.open(folder / mode, "w:gz" if mode == "tgz" else "w") as tar:
            tar.add(table, "data/drkg.tsv")
    np.save(folder / "npy", np.zeros(3), allow_pickle=False)
    raw = {
        "pickle": b"\x80\x04\x95\x10", "bz2": bz2.compress(b"id,x\n"), "xz": lzma.compress(b"x"),
        "gz2": gzip.compress(gzip.compress(b"id,x\n")), "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(9),
        "parquet": b"PAR1\x15\x04", "html": b"\n<!DOCTYPE html><html>",
    }  # fmt: skip
    messages = {
        "zip": "a zip archive of kg.csv: unpack it", "xlsx": "an Excel workbook: save its sheet",
        "tar": "tar archive of data/drkg.tsv: unpack", "tgz": "tar archive of data/drkg.tsv",
        "npy.npy": "a NumPy array", "pickle": "a pickle, which is never read", "bz2": "bunzip2",
        "xz": "unxz", "gz2": "gzipped twice", "hdf5": "an HDF5 file", "parquet": "a Parquet file",
        "html": "a web page, not a table: the download failed",
    }  # fmt: skip
    for name, content in raw.items():
        (folder / name).write_bytes(content)
    return {name: (folder / name, message) for name, message in messages.items()}


def test_another_format_under_a_wrong_name_is_recognised(tmp_path: Path) -> None:
    for name, (path, message) in other_formats(tmp_path).items():
        wrong = path.rename(tmp_path / f"{name}.csv")
        with pytest.raises(InputError, match=message) as error:
            read(wrong, "id")
        assert str(error.value).isprintable()


def test_utf16_that_ends_within_a_character_is_cut(tmp_path: Path) -> None:
    raw = "id,x\n1,2\n".encode("utf-16")
    with pytest.raises(InputError, match="the file seems cut"):
        read(write(tmp_path / "d.csv", raw[:-1]), "id")


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 1 << 16)
    monkeypatch.setattr(delimited, "_CHUNK_BYTES", 1 << 10)
    path = write(tmp_path / "d.csv.gz", gzip.compress(b"id,x\n1,2\n" + bytes(1 << 20)))
    with pytest.raises(InputError, match="a line is longer than"):
        read(path, "id")
