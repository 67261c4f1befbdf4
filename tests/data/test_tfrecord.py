"""TFRecord shards: TensorFlow reads the same bytes, and all damage is detected."""

import os
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bridge_jax.data import tfrecord
from bridge_jax.data.dataset import (
    decode_ids,
    encode_ids,
    read_columns,
    read_nodes,
    vector_faults,
    write_columns,
    write_nodes,
)
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.manifest import NodeTable
from bridge_jax.data.tfrecord import (
    DTYPES,
    TRIPLES_PER_RECORD,
    Shard,
    open_shard,
    read_shard,
    triple_layout,
)
from bridge_jax.errors import InputError

IDS = ["A0AV96", "GO:0003723", "µ-opioid", "P1", "Q9"]


def vectors(rows: int, dim: int = 7, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, dim))
    return x.astype(DTYPES[dtype])


@pytest.fixture
def table(tmp_path: Path) -> NodeTable:
    return write_nodes(tmp_path, "gene/protein", IDS, vectors(5), shard_records=3)


@pytest.fixture(scope="module")
def tf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_a_round_trip_keeps_every_bit(tmp_path: Path, dtype: str) -> None:
    x = vectors(5, dtype=dtype)
    table = write_nodes(tmp_path, "gene/protein", IDS, x, shard_records=3, encoder="ESM-2")
    ids, back = read_nodes(tmp_path, table)
    assert [s.file for s in table.shards] == [
        f"nodes/gene_protein-0000{i}-of-00002.tfrecord" for i in range(2)
    ]
    assert (table.dtype, table.count, table.dim, table.encoder) == (dtype, 5, 7, "ESM-2")
    assert ids == IDS
    assert back.dtype == x.dtype
    assert back.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_tensorflow_reads_a_node_shard(tmp_path: Path, tf, dtype: str) -> None:
    x = vectors(5, dim=130, dtype=dtype)  # beyond 127 bytes a length takes two varint bytes
    table = write_nodes(tmp_path, "drug", IDS, x)
    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "embedding": tf.io.FixedLenFeature([], tf.string),
    }
    examples = [
        tf.io.parse_single_example(e, features)
        for e in tf.data.TFRecordDataset(str(tmp_path / table.shards[0].file))
    ]
    assert [e["id"].numpy().rstrip(b"\0").decode() for e in examples] == IDS
    assert b"".join(e["embedding"].numpy() for e in read) == x.tobytes()
    decoded = tf.io.decode_raw(examples[1]["embedding"], dtype).numpy()
    assert np.array_equal(decoded, x[1])
    example = tf.train.Example.FromString(
        next(iter(tf.data.TFRecordDataset(str(tmp_path / table.shards[0].file)))).numpy()
    )
    assert sorted(example.features.feature) == ["embedding", "id"]


def test_tensorflow_reads_a_triple_shard(tmp_path: Path, tf) -> None:
    n = TRIPLES_PER_RECORD + 10
    columns = {
        "head": np.arange(n),
        "relation": np.arange(n) % 3,
        "tail": np.arange(n)[::-1],
        "mirrored": np.arange(n) % 2,
    }
    file = write_columns(tmp_path, "triples", "train", triple_layout(), columns)
    features = {k: tf.io.FixedLenFeature([], tf.string) for k in columns}
    examples = [
        tf.io.parse_single_example(e, features)
        for e in tf.data.TFRecordDataset(str(tmp_path / file.shards[0].file))
    ]
    columns_read = read_columns(tmp_path, file, triple_layout())
    for name, values in columns.items():
        flat = np.concatenate([tf.io.decode_raw(e[name], tf.int32).numpy() for e in examples])
        assert np.array_equal(flat[:n], values)
        assert (flat[n:] == -1).all()
        assert np.array_equal(columns_read[name], values)


@pytest.mark.parametrize("where", ["length", "length crc", "name", "value", "id", "payload crc"])
def test_a_flipped_bit_is_an_input_error_that_names_file_and_record(
    tmp_path: Path, table: NodeTable, where: str
) -> None:
    shard, layout = table.shards[0], table.layout
    at = {
        "length": 0,
        "length crc": 9,
        "name": layout.template.index(b"embedding"),
        "value": layout.offsets["embedding"] + 5,
        "id": layout.offsets["id"],
        "payload crc": layout.frame_bytes - 1,
    }[where]
    raw = bytearray((tmp_path / shard.file).read_bytes())
    raw[2 * layout.frame_bytes + at] ^= 4
    (tmp_path / shard.file).write_bytes(raw)
    with pytest.raises(InputError, match=r"00000-of-00002\.tfrecord: record 2 (fails|is ill)"):
        read_nodes(tmp_path, table)


def test_every_fault_of_a_shard_is_listed(tmp_path: Path, table: NodeTable) -> None:
    shard, layout = table.shards[0], table.layout
    raw = bytearray((tmp_path / shard.file).read_bytes())
    raw[layout.offsets["embedding"]] ^= 1
    raw[layout.frame_bytes + 3] ^= 1
    (tmp_path / shard.file).write_bytes(raw[:-1])
    frames, faults = open_shard(tmp_path, shard, layout)
    assert len(frames) == 2
    assert "the shard is cut" in faults[0]
    assert faults[1:] == ["record 0 fails its CRC-32C (altered bytes)", "record 1 is ill framed"]


@pytest.mark.parametrize("stop", [0, 10, -1])
def test_a_truncated_shard_is_an_input_error(tmp_path: Path, table: NodeTable, stop: int) -> None:
    path = tmp_path / table.shards[1].file
    path.write_bytes(path.read_bytes()[:stop])
    with pytest.raises(InputError, match=r"00001-of-00002\.tfrecord: .*the shard is cut"):
        read_nodes(tmp_path, table)


def test_a_missing_shard_is_an_input_error(tmp_path: Path, table: NodeTable) -> None:
    (tmp_path / table.shards[1].file).unlink()
    with pytest.raises(InputError, match=r"00001-of-00002\.tfrecord: this shard is missing"):
        read_nodes(tmp_path, table)


def test_a_shard_of_another_run_is_an_input_error(tmp_path: Path, table: NodeTable) -> None:
    write_nodes(tmp_path, "gene/protein", IDS, vectors(5, seed=1), shard_records=3)
    with pytest.raises(InputError, match=r"its sha256 differs.*a shard of another run"):
        read_nodes(tmp_path, table)


def test_a_wrong_dimension_is_an_input_error(tmp_path: Path, table: NodeTable) -> None:
    write_nodes(tmp_path, "gene/protein", IDS, vectors(5, dim=8), shard_records=3)
    with pytest.raises(InputError, match=r"its records are .* another dimension"):
        read_nodes(tmp_path, table)


def test_records_of_another_layout_with_valid_checksums_are_an_input_error(tmp_path: Path) -> None:
    table = write_nodes(tmp_path, "drug", IDS, vectors(5, dim=8, dtype="float16"))
    other = tfrecord.Layout((("embeddinq", 16), ("id", table.id_bytes)))
    columns = {"id": encode_ids(IDS, table.id_bytes), "embeddinq": vectors(5, 8, "float16")}
    shard = tfrecord.write_shard(tmp_path, table.shards[0].file, other, columns)
    with pytest.raises(InputError, match="record 0 is ill framed"):
        read_shard(tmp_path, shard, table.layout)


def test_a_shard_without_records_is_an_input_error(tmp_path: Path, table: NodeTable) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="lists no record"):
        read_shard(tmp_path, Shard("empty", 0, ""), table.layout)


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize(
    ("value", "what"),
    [(np.nan, "NaN or infinite"), (-np.inf, "NaN or infinite"), (-0.0, "all-zero vector")],
)
def test_invalid_vectors_are_not_written(
    tmp_path: Path, dtype: str, value: float, what: str
) -> None:
    x = vectors(5, dtype=dtype)
    x[3, 2:] = x[3, :2] = 0 if value == 0 else 1
    x[3, 1] = value
    with pytest.raises(InputError, match=f"drug: record 3, id 'P1': .*{what}"):
        write_nodes(tmp_path, "drug", IDS, x)
    assert not (tmp_path / "nodes").exists()


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN or infinite"), (0, "all-zero")])
def test_an_invalid_vector_on_disk_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, what: str
) -> None:
    x = vectors(5)
    x[4] = value
    monkeypatch.setattr("bridge_jax.data.dataset.check_embeddings", lambda *_: None)
    table = write_nodes(tmp_path, "drug", IDS, x, shard_records=3)
    monkeypatch.undo()
    with pytest.raises(InputError, match=f"00001-of-00002.tfrecord: record 1, id 'Q9': .*{what}"):
        read_nodes(tmp_path, table)


def test_the_largest_and_smallest_finite_values_are_valid() -> None:
    for dtype in DTYPES.values():
        info = ml_dtypes.finfo(dtype)
        x = np.array([[info.max, 0], [0, -info.smallest_subnormal]], dtype)
        assert vector_faults(x) == []


@pytest.mark.parametrize(
    ("ids", "x", "message"),
    [
        (["a", "b", "a"], vectors(3), "'a' occurs more than once"),
        (["a", "", "c"], vectors(3), "'' is empty"),
        (["a", "b\tc", "d"], vectors(3), "control character"),
        (["a", "b\0", "d"], vectors(3), "control character"),
        (["a", "b"], vectors(3), "2 ids"),
        (["a"], vectors(1)[0], "non-empty"),
        (["a"], vectors(1).astype(np.float64), "float64"),
        (["a"], vectors(1).astype(">f4"), ">f4"),
        ([], vectors(0), "non-empty"),
    ],
)
def test_invalid_nodes_are_not_written(
    tmp_path: Path, ids: list[str], x: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_nodes(tmp_path, "drug", ids, x)
    assert not (tmp_path / "nodes").exists()


def test_ids_that_are_not_utf8_are_an_input_error(tmp_path: Path, table: NodeTable) -> None:
    raw = encode_ids(IDS, 10).copy()
    raw[1, 0] = 0xFF
    columns = {"id": raw, "embedding": vectors(5)}
    layout = tfrecord.node_layout(10, 7, "float32")
    shard = tfrecord.write_shard(tmp_path, "nodes/x.tfrecord", layout, columns)
    bad = NodeTable("x", 7, "float32", 5, 10, (shard,))
    with pytest.raises(InputError, match=r"x\.tfrecord: an id is not UTF-8"):
        read_nodes(tmp_path, bad)


def test_ids_survive_a_round_trip() -> None:
    assert decode_ids(encode_ids(IDS, 10)) == IDS


@pytest.mark.parametrize("count", [0, 1, TRIPLES_PER_RECORD, TRIPLES_PER_RECORD + 1])
def test_columns_survive_a_round_trip(tmp_path: Path, count: int) -> None:
    columns = {k: np.arange(count, dtype=np.int64) for k in ("head", "relation", "tail")}
    columns["mirrored"] = columns["head"] % 2
    file = write_columns(tmp_path, "triples", "test", triple_layout(), columns)
    assert file.count == count
    back = read_columns(tmp_path, file, triple_layout())
    assert all(np.array_equal(back[k], columns[k]) and back[k].dtype == np.int32 for k in columns)
    for wrong in (count - 1, count + 1):
        with pytest.raises(InputError, match=f"does not hold the {wrong} values"):
            read_columns(tmp_path, type(file)(wrong, file.shards), triple_layout())


def test_a_crash_before_the_rename_leaves_the_old_file(
    tmp_path: Path, table: NodeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.tfrecord")}

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write_nodes(tmp_path, "gene/protein", IDS, vectors(5, seed=1), shard_records=3)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert read_nodes(tmp_path, table)[0] == IDS


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"name": "Ménière"})

    def fail_while_writing() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_while_writing()
    assert path.read_text(encoding="utf-8") == '{\n "name": "Ménière"\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_synced_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, _name=name, _real=real: (calls.append(_name), _real(*a))[1]
        )
    write_json(tmp_path / "manifest.json", {})
    assert calls == ["fsync", "replace", "fsync"]
