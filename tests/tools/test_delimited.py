"""The streaming reader: every line of a file is a row or a finding, whatever is in it."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.errors import InputError
from tests.helpers.tiny_run import EXCERPT
from tools.formats import FORMATS, delimited
from tools.formats.delimited import Table

KG_HEADER = EXCERPT.read_text().splitlines()[0]


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"a,b\n1,2\n", "column 'x_type' is not in"),
        (gzip.compress(EXCERPT.read_bytes())[:900], "cannot be read"),
        (KG_HEADER.replace("x_source", "x_id").encode(), "'x_id' is there 2 times"),
    ],
)
def test_an_unreadable_file_says_why(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FORMATS["primekg"](write(tmp_path / "kg.csv", raw))
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        FORMATS["primekg"](tmp_path / "none.csv")


@pytest.mark.parametrize("block", [64, 1000, 1 << 20])
def test_every_line_is_a_row_or_a_finding_whatever_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Random bytes that mean something to a CSV parser, in and between whole rows."""
    monkeypatch.setattr(delimited, "_BLOCK", block)
    rng = np.random.default_rng(block)
    alphabet = [b'"', b",", b"\n", b"\r", b"\r\n", b"\xe9", b"\xc3\xa9", b"\0", b"x", b" ", b'""']
    for _ in range(40):
        lines = [b"%d,%d,row" % (i, i) for i in range(60)]
        for i in rng.integers(0, 60, 8):
            noise = b"".join(alphabet[k] for k in rng.integers(0, len(alphabet), 4))
            cut = rng.integers(0, len(lines[i]))
            lines[i] = lines[i][:cut] + noise + lines[i][cut:]
        body = b"\n".join(lines) + b"\n" * int(rng.integers(0, 2))
        path = write(tmp_path / "t.csv", b"a,b,c\n" + body)
        blocks = list(Table(path, ("c", "a")).blocks())
        rows = np.concatenate([b.rows for b in blocks]).tolist()
        lost = [f.row for b in blocks for f in b.rejects]
        count = body.count(b"\n") + (not body.endswith(b"\n"))
        assert sorted(rows + lost) == list(range(2, count + 2))
        for b in blocks:
            for r, key in zip(b.rows, b.columns["a"].codes, strict=True):
                plain = b"%d,%d,row" % (r - 2, r - 2)
                if body.split(b"\n")[r - 2] == plain:
                    assert b.columns["a"].values[key] == str(r - 2)
