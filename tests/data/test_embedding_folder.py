"""The content of a file decides; every file of a folder is read, named or refused."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data import embedding_formats
from bridge_jax.data.embedding_files import open_embedding_file
from bridge_jax.data.embedding_formats.folder import list_folder
from bridge_jax.errors import InputError
from bridge_jax.projection.sources import open_source
from bridge_jax.retrieval.results import read_embedding
from tools.ingest.embeddings import read_file, read_folder

CASES = Path(__file__).parents[1] / "fixtures" / "cases"
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def npy_bytes(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def tar_bytes() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x.npy"))
    return out.getvalue()


def zip_bytes(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


CONTENT = {
    "npy": (npy_bytes(X), "as it is a NumPy array (npy); rename it to protein.npy"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "as it is an HDF5 file; rename it to protein.h5"),
    "hdf5 behind a user block": (bytes(512) + b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "parquet": (b"PAR1" + bytes(99), "as it is a Parquet file; rename it to protein.parquet"),
    "tar": (tar_bytes(), "is a tar archive; unpack it with tar -xf"),
    "zip": (zip_bytes("a.csv", "b.csv"), "is a zip archive of 2 files (a.csv, b.csv); unpack it"),
    "xlsx": (zip_bytes("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook; save it"),
    "torch": (zip_bytes("a/data.pkl"), "as it is a PyTorch file; rename it to protein.pt"),
    "gzip": (gzip.compress(npy_bytes(X)), "is gzip-compressed; unpack it with gunzip"),
    "pickle": (b"\x80\x04\x95abc", "is a Python pickle, which can run code and is not opened"),
    "old pickle": (b"(dp0\nS'a'\n", "is a Python pickle"),
    "feather": (b"ARROW1\0\0", "is an Arrow (Feather) file; save it as CSV or Parquet"),
    "binary": (bytes(range(200)), "is of no known format"),
    "empty": (b"", "it is empty; download or export it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "get it with git lfs pull"),
    "html": (b"<!DOCTYPE html><html>", "is a web page, not the data; download it again"),
    "fasta": (b">P1\nMKV\n", "is a FASTA file of sequences; encode it with python -m tools.export"),
    "csv": (b"id,0,1\na,1,2\n", "as it is text; rename it to protein.csv"),
    "cut zip": (b"PK\3\4" + bytes(50), "a zip archive that is damaged or cut off"),
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("suffix", [".npz", ".dat"])
def test_the_content_is_named_whatever_the_suffix(tmp_path, content, suffix):
    raw, message = CONTENT[content]
    path = tmp_path / f"protein{suffix}"
    path.write_bytes(raw)
    with pytest.raises(InputError) as error:
        open_embedding_file(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("content", sorted(set(CONTENT) - {"html", "fasta", "csv", "empty"}))
def test_a_folder_with_an_unreadable_file_of_embeddings_is_refused(tmp_path, content):
    np.savez(tmp_path / "disease.npz", ids=np.array(list("abc")), x=X)
    (tmp_path / "protein.bin").write_bytes(CONTENT[content][0])
    with pytest.raises(InputError, match=r"protein.bin: "):
        read_folder(tmp_path)


def test_what_is_something_else_is_noticed(tmp_path, capsys):
    np.savez(tmp_path / "disease.npz", ids=np.array(list("abc")), x=X)
    np.save(tmp_path / "drug.npy", X)
    (tmp_path / "drug.ids.txt").write_text("a\nb\nc\n")
    (tmp_path / "README").write_text("Made by hand.\n")
    (tmp_path / "drug.json").write_text("{}")
    (tmp_path / ".hidden").touch()
    (tmp_path / "drug.csv").write_text("id,name,smiles\na,b,C\n")
    (tmp_path / "more").mkdir()
    notices = []
    assert sorted(read_folder(tmp_path, notices=notices)) == ["disease", "drug"]
    (notice,) = notices
    expected = ".hidden, README, drug.csv, drug.json, more/: not read; no file of embeddings"
    assert notice.text == expected
    read_folder(tmp_path)
    assert capsys.readouterr().err == f"notice: {expected}\n"


def test_each_format_in_a_folder_is_read(tmp_path):
    (tmp_path / "drug.csv").write_text("id,0,1\na,1,2\nb,3,4\n")
    (tmp_path / "disease.tsv.gz").write_bytes(gzip.compress(b"id\t0\t1\na\t1\t2\nb\t3\t4\n"))
    found = read_folder(tmp_path)
    assert {k: (v.ids, v.x.tolist()) for k, v in found.items()} == dict.fromkeys(
        ["drug", "disease"], (["a", "b"], [[1, 2], [3, 4]])
    )
    assert found["disease"].file == "disease.tsv.gz"
    np.savez(tmp_path / "drug.npz", ids=np.array(list("abc")), x=X)
    assert len(list_folder(tmp_path).paths) == 3
    with pytest.raises(InputError, match="drug exists in two formats; keep one"):
        read_folder(tmp_path)


def test_a_projection_refuses_an_unreadable_file_of_its_type_only(tmp_path):
    np.savez(tmp_path / "drug.npz", ids=np.array(list("abc")), x=X)
    (tmp_path / "disease.h5").write_bytes(b"\x80\x04\x95")
    assert open_source(tmp_path, "drug", 4, ["disease"]).num_rows == 3
    with pytest.raises(InputError, match=r"disease.h5: is a Python pickle"):
        open_source(tmp_path, "disease", 4, ["drug"])


@pytest.mark.parametrize(
    ("ids", "value", "message"),
    [
        (["a", "b", " a "], 1, "id 'a' occurs twice, in rows 0 and 2; average or drop one"),
        (["9606", "9606.0", "b"], 1, "id '9606' occurs twice, in rows 0 and 1"),
        (["a", "", "b"], 1, "row 1 has no id"),
        (["a", "b", "c"], 1e39, "row 1, id 'b': the value 1e+39, which is infinite as float32"),
        (["a", "b", "c"], np.nan, "row 1, id 'b': a NaN or infinite value"),
    ],
)
def test_faulty_rows_are_named_with_their_file(tmp_path, ids, value, message):
    x = np.ones((3, 2))
    x[1, 0] = value
    np.savez(tmp_path / "drug.npz", ids=np.array(ids), x=x)
    with pytest.raises(InputError) as error:
        read_file(tmp_path / "drug.npz")
    assert f"{tmp_path / 'drug.npz'}: {message}" in str(error.value)


def test_the_options_of_every_message_are_options_of_the_commands():
    import re

    folder = Path(embedding_formats.__file__).parent
    named = {o for p in folder.glob("*.py") for o in re.findall(r"pass (--[a-z-]+)", p.read_text())}
    assert named >= {"--pool", "--layer", "--id-key", "--max-unpacked"}
    for command in ("bridge_jax.retrieve", "bridge_jax.project", "tools.import_graph"):
        done = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True,
                              text=True, check=True)  # fmt: skip
        assert not {o for o in named if o not in done.stdout}, command


@pytest.mark.parametrize("missing", ["h5py", "torch"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    content, suffix, extra = {
        "h5py": (CONTENT["hdf5"][0], ".h5", "hdf5"),
        "torch": (CONTENT["torch"][0], ".pt", "torch"),
    }[missing]
    (tmp_path / f"protein{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"pip install 'bridge_jax\[{extra}\]'"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("case", "first_id"),
    [("fortran-order", "P00000"), ("float-ids", "9000"), ("pandas-index-parquet", "P00000")],
)
def test_embeddings_as_people_have_them_are_read(case, first_id):
    protein = read_folder(CASES / case / "emb")["protein"]
    assert protein.ids[0] == first_id
    assert protein.x.shape == (20, 8)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("object-ids", "protein.npz: ids is an object array (pandas writes such); save np.array("),
        ("unread-embeddings", "protein.h5"),
    ],
)
def test_embeddings_that_cannot_be_read_are_refused(case, message):
    with pytest.raises(InputError) as error:
        read_folder(CASES / case / "emb")
    assert message in str(error.value)


def test_a_query_that_overflows_is_refused():
    with pytest.raises(InputError, match=r"x.npy: row 0: the value .*, which is infinite as float"):
        read_embedding(CASES / "overflow-to-inf" / "x.npy")
