"""Vectors are read in blocks as they were stored, from every format, and faults are named."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import write_nodes
from bridge_jax.data.embedding_files import open_vectors
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError
from bridge_jax.projection import sources
from bridge_jax.projection.sources import open_source

N, DIM = 1000, 6
IDS = [f"DB{i:05d}" for i in range(N)]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float16)


def write(folder: Path, form: str, x: np.ndarray, ids=IDS, name="drug") -> Path:
    """One file of vectors (or a folder of shards) in a format."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{form}"
    if form == "npy":
        np.save(path, x)
        path.with_suffix(".ids.txt").write_text("".join(f"{i}\n" for i in ids))
    elif form == "npz":
        np.savez_compressed(path, ids=np.array(ids), x=x)
    elif form == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), DIM)
        pq.write_table(pa.table({"id": ids, "embedding": lists}), path, row_group_size=300)
    else:
        table = write_nodes(folder, name, list(ids), x, shard_records=400)
        write_json(folder / f"nodes/{name}.json", asdict(table))
        return folder
    return path


@pytest.mark.parametrize("form", ["tfrecord", "npy", "npz", "parquet"])
def test_every_format_gives_the_same_rows_in_parts_and_blocks(tmp_path, monkeypatch, form, x):
    monkeypatch.setattr(sources, "SPLIT", 350)
    source = open_source(write(tmp_path, form, x), "drug", DIM)
    assert source.rows == N
    assert len(source.parts) == 3
    blocks = [b for k in range(3) for b in source.blocks(k, 64)]
    assert max(len(b.ids) for b in blocks) == 64
    assert [i for b in blocks for i in b.ids] == IDS
    assert np.array_equal(np.concatenate([b.x for b in blocks]), x)
    assert not any(b.faults for b in blocks)
    assert sum(map(source.size, range(3))) == N
    assert source.id_bytes == len(IDS[0])


@pytest.mark.parametrize("form", ["npy", "npz", "parquet"])
def test_faults_name_the_row_and_the_reason(tmp_path, form, x):
    x[3, 2], x[5] = np.nan, 0
    ids = list(IDS)
    ids[7], ids[900] = "", ids[20]
    source = open_source(write(tmp_path, form, x, ids), "drug", DIM)
    faults = {b.first + i: why for b in source.blocks(0, 128) for i, why in b.faults.items()}
    assert faults == {
        3: "a NaN or infinite value",
        5: "an all-zero vector",
        7: "an empty id, or one with a control character",
        900: "an id that an earlier record has too",
    }


def test_lists_of_other_lengths_are_faults_of_their_rows(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = [[1.0, 2.0], [1.0], None, [3.0, None], [5.0, 6.0]]
    table = pa.table({"id": list("abcde"), "embedding": pa.array(lists, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "drug.parquet")
    (block,) = open_source(tmp_path, "drug", 2).blocks(0, 10)
    assert block.faults == {
        1: "dimension 1 where 2 is needed",
        2: "no vector",
        3: "a NaN or infinite value",
    }
    assert block.x[[0, 4]].tolist() == [[1, 2], [5, 6]]


def test_a_folder_means_the_files_of_the_type(tmp_path, x):
    half = N // 2
    for k, part in enumerate((slice(0, half), slice(half, N))):
        write(tmp_path, "npy", x[part], IDS[part], f"drug-0000{k}-of-00002")
    write(tmp_path, "npy", x, IDS, "disease")
    found = open_source(tmp_path, "drug", DIM, ["disease"])
    assert [f.path.name for f in found.files] == [f"drug-0000{k}-of-00002.npy" for k in (0, 1)]
    write(tmp_path / "plain", "npy", x, IDS, "library")
    assert open_source(tmp_path / "plain", "drug", DIM, ["disease"]).rows == N
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no vectors of gene/protein; expected"):
        open_source(tmp_path / "empty", "gene/protein", DIM)
    write(tmp_path, "npz", x, IDS, "drug-00000-of-00002")
    with pytest.raises(InputError, match="drug-00000-of-00002 is there in two formats"):
        open_source(tmp_path, "drug", DIM)


def test_one_file_of_another_dimension_is_rejected_row_by_row_all_of_them_at_once(tmp_path, x):
    write(tmp_path, "npy", x[:, :4], [f"x{i}" for i in range(N)], "drug-00000-of-00002")
    with pytest.raises(InputError, match=r"vectors of dimension 4; drug of this run has 6"):
        open_source(tmp_path, "drug", DIM)
    write(tmp_path, "npy", x, IDS, "drug-00001-of-00002")
    source = open_source(tmp_path, "drug", DIM)
    (bad,) = source.blocks(0, N)
    (good,) = source.blocks(1, N)
    assert set(bad.faults.values()) == {"dimension 4 where 6 is needed"}
    assert len(bad.faults) == N
    assert not good.faults


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("npy", "it ends within row"),
        ("npz", "cannot be read"),
        ("parquet", "cannot be read"),
        ("tfrecord", "bytes where the manifest implies"),
    ],
)
def test_a_cut_file_is_an_input_error(tmp_path, form, message, x):
    path = write(tmp_path, form, x)
    file = path if path.is_file() else min(path.glob("nodes/*.tfrecord"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=message):
        list(open_source(path, "drug", DIM).blocks(0, 128))


def test_flipped_bits_of_a_shard_are_found_on_the_way(tmp_path, x):
    folder = write(tmp_path, "tfrecord", x)
    file = min(folder.glob("nodes/*.tfrecord"))
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1  # the last byte of the last id
    file.write_bytes(raw)
    with pytest.raises(InputError, match="record 399 fails its CRC"):
        list(open_source(folder, "drug", DIM).blocks(0, 64))


def test_a_shard_of_another_run_is_found_at_its_end(tmp_path, x):
    folder = write(tmp_path / "a", "tfrecord", x)
    other = write(tmp_path / "b", "tfrecord", x[::-1])
    name = "nodes/drug-00000-of-00003.tfrecord"
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(InputError, match="a shard of another run"):
        list(open_source(folder, "drug", DIM).blocks(0, 64))


def test_what_cannot_be_an_input_is_named(tmp_path, x):
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(tmp_path / "none", "drug", DIM)
    (tmp_path / "drug.csv").write_text("a,b")
    with pytest.raises(InputError, match=r"drug.csv: not a file of embeddings; expected"):
        open_vectors(tmp_path / "drug.csv")
    with pytest.raises(InputError, match="a shard alone does not tell its type"):
        open_vectors(tmp_path / "drug.tfrecord")
    with pytest.raises(InputError, match=r"holds no vector of drug"):
        open_source(write(tmp_path, "npy", x[:0], []), "drug", DIM)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    (tmp_path / "f.ids.txt").write_text("a\n")
    with pytest.raises(InputError, match="its columns are stored first"):
        open_vectors(tmp_path / "f.npy")
