"""Text matrices and files of ids in any encoding; damaged files of all formats."""

import gzip
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_jax.data.embedding_files import open_embedding_file
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import read_embedding
from tests.helpers.embedding_checks import IDS, X, check, refusal, save_ids


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class TestText:
    @settings(max_examples=60, deadline=None)
    @given(
        ids=st.lists(st.from_regex(r"[A-Z][\w|\"', ;.é-]{0,8}[A-Z]", fullmatch=True), min_size=2,
                     max_size=9, unique=True),
        dim=st.integers(2, 6),
        delimiter=st.sampled_from([",", "\t", ";", "|"]),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
        encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]),
        header=st.sampled_from(["none", "names", "pandas", "r"]),
        packed=st.booleans(),
        seed=st.integers(0, 99),
    )  # fmt: skip
    def test_the_vector_of_an_id_is_the_one_beside_it(
        self, tmp_path_factory, ids, dim, delimiter, end, encoding, header, packed, seed
    ):
        import csv
        import io
        import unicodedata

        ids = list({unicodedata.normalize("NFC", i): None for i in ids})
        x = np.random.default_rng(seed).normal(size=(len(ids), dim))
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
        names = [str(i) for i in range(dim)]
        if header != "none":
            first = {"names": ["id"], "pandas": [""], "r": []}[header]
            writer.writerow([*first, *names])
        writer.writerows([i, *row] for i, row in zip(ids, x.tolist(), strict=True))
        raw = out.getvalue().encode(encoding, errors="replace")
        ids = [i.encode(encoding, errors="replace").decode(encoding) for i in ids]
        is_utf8_too = encoding == "latin-1" and not raw.isascii() and _is_utf8(raw)
        # Without a byte order mark UTF-16 shows only where most characters are Latin.
        is_unmarked = encoding == "utf-16-le" and max(map(ord, "".join(ids))) > 255
        if len(set(ids)) < len(ids) or is_utf8_too or is_unmarked:
            return
        folder = tmp_path_factory.mktemp("t")
        path = folder / ("a.csv.gz" if packed else "a.csv")
        path.write_bytes(gzip.compress(raw) if packed else raw)
        check(path, x.astype(np.float32), ids)

    def test_word2vec(self, tmp_path):
        path = tmp_path / "a.emb"
        rows = [f"{i} {' '.join(map(str, x))}" for i, x in zip("abcdef", X.tolist(), strict=True)]
        path.write_text("6 5\n" + "\n".join(rows) + "\n")
        check(path, X, list("abcdef"))
        path.write_text("7 5\n" + "\n".join(rows) + "\n")
        assert "6 vectors where its first line claims 7" in refusal(path)

    def test_pandas_with_row_numbers_and_whole_ids(self, tmp_path):
        pd = pytest.importorskip("pandas")
        path = tmp_path / "a.csv"
        frame = pd.DataFrame(X)
        frame.insert(0, "id", IDS)
        frame.to_csv(path)
        check(path)
        frame["id"] = np.arange(6.0) + 9000
        frame.to_csv(path, index=False)
        check(path, X, [str(9000 + i) for i in range(6)])
        pd.DataFrame(X, index=np.arange(6) + 9000).to_csv(path, header=False)
        check(path, X, [str(9000 + i) for i in range(6)])

    @pytest.mark.parametrize("names", ["gene,0,1,2", "gene,1,2,3", "gene,0,2,5", "gene,7,80,900"])
    def test_numbers_as_names_are_no_vector(self, tmp_path, names):
        (tmp_path / "a.csv").write_text(f"{names}\nTP53,0.5,1,2\nMDM2,3,4,5\n")
        x = np.array([[0.5, 1, 2], [3, 4, 5]], np.float32)
        check(tmp_path / "a.csv", x, ["TP53", "MDM2"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("id,0,1\na,1,2\nb,1\n", "row 2 has 2 fields where 3 are expected"),
            ("id,0,1\na,1,2\nb,1,x\n", "row 2, field 3: 'x' is no number"),
            ("id,0,1\na,1,2\nb,1,1_0\n", "row 2, field 3: '1_0' is no number"),
            ("id,0,0\na,1,2\nb,1,2\n", "two columns are called '0'"),
            ("id,name,0,1\na,b,1,2\nc,d,1,2\n", "field 2 ('name') holds text"),
            ("id,length,0,1,2\na,3,1,2,3\nb,4,1,2,3\n", "'length' beside the 3 numbered columns"),
            ("0.5,0.1\n0.2,0.3\n", "no column of ids"),
            ('id,0,1\na,1,2\n"b,1,2\n', "cannot be read"),
            ("P1;0,12;0,34;0,5\nP2;0,12;0,34;0,5\n", "holds text"),
            ("id,a,b\n", "not a file of embeddings"),
        ],
    )
    def test_faulty_text_is_refused(self, tmp_path, text, message):
        (tmp_path / "a.csv").write_text(text)
        assert message in refusal(tmp_path / "a.csv")

    def test_a_missing_number_is_a_fault(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,0,1\na,1,2\nb,,2\nc,NA,1\n")
        (block,) = open_embedding_file(tmp_path / "a.csv").blocks(0, 3, 5, 2)
        assert np.isnan(block.x).tolist() == [[False, False], [True, False], [True, False]]


class TestIdsFile:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_any_encoding_and_line_end(self, tmp_path, encoding, end):
        ids = [f"é {i}" for i in range(9)]
        np.save(tmp_path / "a.npy", np.ones((9, 2)))
        (tmp_path / "a.ids.txt").write_bytes((end.join(ids) + end * 3).encode(encoding))
        file = open_embedding_file(tmp_path / "a.npy")
        assert [i for b in file.blocks(3, 9, 2, 2) for i in b.ids] == ids[3:]
        assert bool(file.notices) == (encoding == "latin-1")

    def test_far_lines_are_found(self, tmp_path, monkeypatch):
        from bridge_jax.data.embedding_formats import ids as module

        monkeypatch.setattr(module, "ID_BLOCK", 4)
        (tmp_path / "a.txt").write_bytes("".join(f"β{i}\n" for i in range(30)).encode("utf-16"))
        lines = module.TextLines(tmp_path / "a.txt")
        assert lines.count == 30
        assert next(lines.blocks(18, 21, 3)) == ["β18", "β19", "β20"]


class TestDamage:
    """A changed byte gives the same vectors, other numbers or an `InputError`, and nothing else."""

    @pytest.mark.parametrize("file_format", ["npy", "npz", "csv", "parquet", "pt"])
    def test_a_changed_byte_is_no_traceback(self, tmp_path, file_format):
        path = tmp_path / f"a.{file_format}"
        if file_format == "npy":
            np.save(path, X)
            save_ids(path)
        elif file_format == "npz":
            np.savez(path, ids=np.array(IDS), x=X)
        elif file_format == "csv":
            path.write_text("".join(f"{i},0.5,1.5\n" for i in "abc"))
        elif file_format == "parquet":
            pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            pq.write_table(pa.table({"id": IDS, "e": list(X)}), path)
        else:
            torch = pytest.importorskip("torch")
            old = {"_use_new_zipfile_serialization": False}
            torch.save({"x": torch.tensor(X), "ids": IDS}, path, **old)
        raw = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(150):
            changed = bytearray(raw)
            changed[rng.integers(min(len(raw), 400))] = rng.integers(256)
            path.write_bytes(changed[: len(raw) - rng.integers(3)])
            with suppress(InputError):
                read_embedding(path)
