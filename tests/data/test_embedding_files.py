"""Embedding files: every format gives the same blocks, and faults are named."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import write_nodes
from bridge_jax.data.embedding_files import open_embedding_file
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError
from bridge_jax.projection import sources
from bridge_jax.projection.sources import open_source

N, DIM = 1000, 6
IDS = [f"DB{i:05d}" for i in range(N)]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float16)


def write(folder: Path, file_format: str, x: np.ndarray, ids=IDS, name="drug") -> Path:
    """Writes embeddings as one file, or as a folder of shards; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{file_format}"
    if file_format == "npy":
        np.save(path, x)
        path.with_suffix(".ids.txt").write_text("".join(f"{i}\n" for i in ids))
    elif file_format == "npz":
        np.savez_compressed(path, ids=np.array(ids), x=x)
    elif file_format == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), DIM)
        pq.write_table(pa.table({"id": ids, "embedding": lists}), path, row_group_size=300)
    else:
        table = write_nodes(folder, name, list(ids), x, shard_records=400)
        write_json(folder / f"nodes/{name}.json", asdict(table))
        return folder
    return path


@pytest.mark.parametrize("file_format", ["tfrecord", "npy", "npz", "parquet"])
def test_every_format_gives_the_same_rows_in_slices_and_blocks(
    tmp_path, monkeypatch, file_format, x
):
    monkeypatch.setattr(sources, "MAX_SLICE_ROWS", 350)
    source = open_source(write(tmp_path, file_format, x), "drug", DIM)
    assert source.num_rows == N
    assert len(source.slices) == 3
    blocks = [b for k in range(3) for b in source.blocks(k, 64)]
    assert max(len(b.ids) for b in blocks) == 64
    assert [i for b in blocks for i in b.ids] == IDS
    assert np.array_equal(np.concatenate([b.x for b in blocks]), x)
    assert not any(b.faults for b in blocks)
    assert sum(map(source.slice_rows, range(3))) == N
    assert source.id_bytes == len(IDS[0])


@pytest.mark.parametrize("file_format", ["npy", "npz", "parquet"])
def test_faults_name_the_row_and_the_reason(tmp_path, file_format, x):
    x[3, 2], x[5] = np.nan, 0
    ids = list(IDS)
    ids[7], ids[900] = "", ids[20]
    source = open_source(write(tmp_path, file_format, x, ids), "drug", DIM)
    faults = {b.first_row + i: why for b in source.blocks(0, 128) for i, why in b.faults.items()}
    assert faults == {
        3: "a NaN or infinite value",
        5: "an all-zero vector",
        7: "an empty id, or one with a control character",
        900: "an id that an earlier record has too",
    }


def test_parquet_rows_of_another_length_are_faults(tmp_path):
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


def test_a_folder_gives_the_files_of_the_node_type(tmp_path, x):
    half = N // 2
    for k, rows in enumerate((slice(0, half), slice(half, N))):
        write(tmp_path, "npy", x[rows], IDS[rows], f"drug-0000{k}-of-00002")
    write(tmp_path, "npy", x, IDS, "disease")
    source = open_source(tmp_path, "drug", DIM, ["disease"])
    assert [f.path.name for f in source.files] == [f"drug-0000{k}-of-00002.npy" for k in (0, 1)]
    write(tmp_path / "plain", "npy", x, IDS, "library")
    assert open_source(tmp_path / "plain", "drug", DIM, ["disease"]).num_rows == N
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no vectors of gene/protein; expected"):
        open_source(tmp_path / "empty", "gene/protein", DIM)
    write(tmp_path, "npz", x, IDS, "drug-00000-of-00002")
    with pytest.raises(InputError, match="drug-00000-of-00002 exists in two formats"):
        open_source(tmp_path, "drug", DIM)


def test_files_of_another_dimension_are_faults_of_their_rows_unless_all_are(tmp_path, x):
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
    ("file_format", "message"),
    [
        ("npy", "the file ends within row"),
        ("npz", "cannot be read"),
        ("parquet", "cannot be read"),
        ("tfrecord", "bytes where the manifest implies"),
    ],
)
def test_a_truncated_file_is_an_input_error(tmp_path, file_format, message, x):
    path = write(tmp_path, file_format, x)
    file = path if path.is_file() else min(path.glob("nodes/*.tfrecord"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=message):
        list(open_source(path, "drug", DIM).blocks(0, 128))


def test_a_flipped_bit_of_a_shard_is_detected_while_streaming(tmp_path, x):
    folder = write(tmp_path, "tfrecord", x)
    file = min(folder.glob("nodes/*.tfrecord"))
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1  # the last byte of the last id
    file.write_bytes(raw)
    with pytest.raises(InputError, match="record 399 fails its CRC"):
        list(open_source(folder, "drug", DIM).blocks(0, 64))


def test_a_shard_of_another_run_is_detected_at_its_end(tmp_path, x):
    folder = write(tmp_path / "a", "tfrecord", x)
    other = write(tmp_path / "b", "tfrecord", x[::-1])
    name = "nodes/drug-00000-of-00003.tfrecord"
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(InputError, match="a shard of another run"):
        list(open_source(folder, "drug", DIM).blocks(0, 64))


def test_unusable_input_is_an_input_error(tmp_path, x):
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(tmp_path / "none", "drug", DIM)
    (tmp_path / "drug.csv").write_text("a,b")
    with pytest.raises(InputError, match=r"drug.csv: not a file of embeddings; expected"):
        open_embedding_file(tmp_path / "drug.csv")
    with pytest.raises(InputError, match="a single shard does not name its node type"):
        open_embedding_file(tmp_path / "drug.tfrecord")
    with pytest.raises(InputError, match=r"contains no vector of drug"):
        open_source(write(tmp_path, "npy", x[:0], []), "drug", DIM)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    (tmp_path / "f.ids.txt").write_text("a\n")
    with pytest.raises(InputError, match="it is stored in Fortran order"):
        open_embedding_file(tmp_path / "f.npy")
