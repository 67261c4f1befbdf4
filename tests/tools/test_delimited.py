"""The streaming reader: every line of a file becomes a row or a finding, whatever it contains."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.errors import InputError
from tests.helpers.tiny_run import EXCERPT
from tools.formats import FORMATS, delimited
from tools.formats.delimited import DelimitedFile

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
        num_lines = body.count(b"\n") + (not body.endswith(b"\n"))
        assert sorted(rows + rejected) == list(range(2, num_lines + 2))
        for chunk in chunks:
            for row, code in zip(chunk.rows, chunk.columns["a"].codes, strict=True):
                sound = b"%d,%d,row" % (row - 2, row - 2)
                if body.split(b"\n")[row - 2] == sound:
                    assert chunk.columns["a"].values[code] == str(row - 2)
