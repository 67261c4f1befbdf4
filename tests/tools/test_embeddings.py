"""Precomputed embeddings are read unchanged, or refused with a reason."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge_jax.errors import InputError
from tools.ingest.embeddings import read_file, read_folder


def test_npz_npy_and_parquet_files_are_read(tmp_path: Path) -> None:
    ids, x = ["a", "b", "c"], np.arange(12, dtype=np.float64).reshape(3, 4) + 1
    np.savez(tmp_path / "drug.npz", ids=np.array([7, 8, 9]), x=x.astype(">f4"))
    np.save(tmp_path / "disease.npy", x)
    (tmp_path / "disease.ids.txt").write_text("a\nb\nc\n")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel().astype(np.float32)), 4)
    pq.write_table(pa.table({"id": ids, "embedding": fixed}), tmp_path / "anatomy.parquet")
    pq.write_table(pa.table({"id": ids, "embedding": x.tolist()}), tmp_path / "pathway.parquet")
    embeddings = read_folder(tmp_path)
    assert sorted(embeddings) == ["anatomy", "disease", "drug", "pathway"]
    assert embeddings["drug"].ids == ["7", "8", "9"]
    for table in embeddings.values():
        np.testing.assert_array_equal(table.x, x)
        assert table.x.dtype == np.dtype("<f4")
    assert embeddings["disease"].ids == embeddings["anatomy"].ids == ids

    (tmp_path / "drug.ids.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "drug.npy", x)
    with pytest.raises(InputError, match="drug exists in two formats"):
        read_folder(tmp_path)
    (tmp_path / "drug.ids.txt").unlink()
    with pytest.raises(InputError, match=r"drug\.ids\.txt is missing"):
        read_file(tmp_path / "drug.npy")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1.0, 2.0], [3.0, 4.0, 5.0]], r"row 1, id 'b': dimension 3 where 2 is needed"),
        ([[1.0, 2.0], None], r"row 1, id 'b': no vector"),
    ],
)
def test_ragged_parquet_is_refused(tmp_path: Path, lists: list, message: str) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "embedding": lists}), tmp_path / "drug.parquet")
    with pytest.raises(InputError, match=message):
        read_file(tmp_path / "drug.parquet")
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "drug.parquet")
    with pytest.raises(InputError, match=r"no column of embeddings .*it has: key"):
        read_file(tmp_path / "drug.parquet")


@pytest.mark.parametrize("name", ["drug.npz", "drug.npy", "drug.parquet"])
def test_files_that_are_no_arrays_are_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "drug.ids.txt").write_text("a\n")
    for raw in (b"", b"PK\3\4", b"\x93NUMPY\1\0", b"PAR1"):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            read_file(tmp_path / name)


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "drug.npz", ids=np.array(["a"], object), x=np.ones((1, 2)))
    with pytest.raises(
        InputError,
        match=r"ids is an object array \(pandas writes such\); save np.array\(ids, str\)",
    ):
        read_file(tmp_path / "drug.npz")


def test_a_broken_sidecar_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    for text in ("{", "[]", "{}", '{"shards": [], "name": 3}'):
        (tmp_path / "nodes/drug.json").write_text(text)
        with pytest.raises(InputError, match=r"drug\.json: cannot be read"):
            read_folder(tmp_path)
