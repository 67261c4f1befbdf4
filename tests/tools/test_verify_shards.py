"""`verify_shards` lists every fault of a dataset, and passes only sound datasets."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import cli
from bridge_jax.data.dataset import encode_ids, read_nodes, write_columns
from bridge_jax.data.manifest import Manifest, read_manifest, write_manifest
from bridge_jax.data.tfrecord import heldout_layout, triple_layout, write_shard
from bridge_jax.errors import InputError
from tests.helpers.excerpt import DIM
from tools import verify_shards
from tools.ingest.embedding_quality import HEADER, effective_rank, quality, shared_vectors

pytestmark = pytest.mark.usefixtures("no_fsync")

PROTEINS = "nodes/gene_protein-00000-of-00001.tfrecord"


@pytest.fixture
def dataset(excerpt_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the excerpt that a test may damage."""
    return Path(shutil.copytree(excerpt_dataset, tmp_path / "out"))


def verify(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """Returns the exit code, the output and the faults."""
    capsys.readouterr()
    code = verify_shards.main([str(root)])
    output = capsys.readouterr().out
    lines = output.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[1:] in (["fault"], ["faults"]))
    assert int(lines[at].split()[0]) == len(lines) - at - 1
    return code, output, lines[at + 1 :]


def table_index(manifest: Manifest, name: str) -> int:
    return [t.name for t in manifest.node_types].index(name)


def change_proteins(root: Path, change: Callable[[list[str], np.ndarray], object]) -> None:
    """Replaces the proteins, with correct checksums, as a faulty writer would."""
    manifest = read_manifest(root)
    at = table_index(manifest, "gene/protein")
    table = manifest.node_types[at]
    ids, x = read_nodes(root, table)
    x = np.array(x)
    change(ids, x)
    columns = {"id": encode_ids(ids, table.id_bytes), "embedding": x}
    shard = write_shard(root, PROTEINS, table.layout, columns)
    tables = list(manifest.node_types)
    tables[at] = replace(table, shards=(shard,))
    write_manifest(root, replace(manifest, node_types=tuple(tables)))


def test_a_sound_dataset_passes(excerpt_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, faults = verify(excerpt_dataset, capsys)
    assert (code, faults) == (0, [])
    manifest = read_manifest(excerpt_dataset)
    for file in manifest.files():
        line = next(row for row in output.splitlines() if row.startswith(file))
        assert line.endswith("ok")
    assert "note" not in output
    line = next(row for row in output.splitlines() if row.startswith("gene/protein"))
    assert line.split()[1:3] == ["34", str(DIM)]


def test_every_fault_of_every_file_is_listed(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(dataset)
    frame = manifest.table("gene/protein").layout.frame_bytes
    raw = bytearray((dataset / PROTEINS).read_bytes())
    raw[3 * frame + 40] ^= 1
    raw[7 * frame + 9] ^= 1
    (dataset / PROTEINS).write_bytes(raw)
    disease = dataset / "nodes/disease-00000-of-00001.tfrecord"
    disease.write_bytes(disease.read_bytes()[:-3])
    (dataset / "triples/test-00000-of-00001.tfrecord").unlink()
    other = manifest.node_types[table_index(manifest, "cellular_component")].shards[0].file
    shutil.copy(dataset / other, dataset / "nodes/left_over.tfrecord")
    names = dataset / "nodes/molecular_function.tsv"
    names.write_text(names.read_text().replace("GO:0002020", "GO:9999999"))
    (dataset / "tfds/triples/features.json").write_text("{}")
    (dataset / "tfds/nodes/disease/features.json").unlink()
    code, output, faults = verify(dataset, capsys)
    assert code == 1
    text = "\n".join(faults)
    for expected in (
        f"{PROTEINS}: record 3 fails its CRC-32C",
        f"{PROTEINS}: record 7 is ill framed",
        "disease-00000-of-00001.tfrecord: ",
        "the shard is cut",
        "manifest.json: disease: 130 records where the manifest counts 131",
        "nodes/disease.tsv: 131 names for 130 records",
        "test-00000-of-00001.tfrecord: this shard is missing",
        "where the shard has id 'GO:0002020'",
        "tfds: tfds/triples/features.json is not what",
        "tfds: tfds/nodes/disease/features.json cannot be read",
    ):
        assert expected in text
    assert "note: nodes/left_over.tfrecord is not listed in the manifest" in output


def test_bad_vectors_and_ids_with_correct_checksums_are_named(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(ids: list[str], x: np.ndarray) -> None:
        x[2, 1], x[5] = np.inf, 0
        ids[9] = ids[8] = ids[4]
        ids[11] = ""

    change_proteins(dataset, spoil)
    code, output, faults = verify(dataset, capsys)
    ids = [r.split("\t")[0] for r in (dataset / "nodes/gene_protein.tsv").read_text().splitlines()]
    assert code == 1
    assert faults[:6] == [
        f"{PROTEINS}: record 11: its id is empty",
        f"{PROTEINS}: record 8, id {ids[5]!r}: also in {PROTEINS} record 4",
        f"{PROTEINS}: record 9, id {ids[5]!r}: also in {PROTEINS} record 4",
        f"{PROTEINS}: record 2, id {ids[3]!r}: a NaN or infinite value",
        f"{PROTEINS}: record 5, id {ids[6]!r}: an all-zero vector",
        f"nodes/gene_protein.tsv: line 10 reads {[ids[9], name_of(dataset, 9)]} where the shard "
        f"has id {ids[5]!r}",
    ]
    assert len(faults) == 8
    line = next(row for row in output.splitlines() if row.startswith("gene/protein"))
    assert line.split()[1] == "32"  # statistics are of the sound vectors only


def name_of(root: Path, line: int) -> str:
    """Returns the name in a line of the proteins' table of names, from 0."""
    return (root / "nodes/gene_protein.tsv").read_text().splitlines()[line].split("\t")[1]


def test_an_id_that_is_not_utf8_or_in_two_shards_is_named(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(dataset)
    at = table_index(manifest, "gene/protein")
    table = manifest.node_types[at]
    ids, x = read_nodes(dataset, table)
    raw = encode_ids(ids[:3], table.id_bytes).copy()
    raw[1, 0] = 0xFF
    second = write_shard(dataset, "nodes/more.tfrecord", table.layout,
                         {"id": raw, "embedding": x[:3]})  # fmt: skip
    tables = list(manifest.node_types)
    tables[at] = replace(table, shards=(*table.shards, second), count=37)
    write_manifest(dataset, replace(manifest, node_types=tuple(tables)))
    code, _, faults = verify(dataset, capsys)
    assert code == 1
    assert faults[0].startswith("nodes/more.tfrecord: record 1: its id is not UTF-8: b'\\xff")
    assert faults[1] == f"nodes/more.tfrecord: record 0, id {ids[0]!r}: also in {PROTEINS} record 0"
    assert faults[2] == f"nodes/more.tfrecord: record 2, id {ids[2]!r}: also in {PROTEINS} record 2"


def test_facts_with_ids_out_of_range_are_named(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(dataset)
    nodes = sum(t.count for t in manifest.node_types)
    columns = {k: np.array([0, 1, 2]) for k in ("head", "relation", "tail")}
    columns["mirrored"] = np.array([0, 1, 2])
    columns["head"][1], columns["tail"][2], columns["relation"][0] = nodes, -5, 99
    test = write_columns(dataset, "triples", "test", triple_layout(), columns)
    heldout = write_columns(
        dataset, "heldout", "test", heldout_layout(), {"node": np.array([nodes])}
    )
    train = replace(manifest.triples["train"], count=manifest.triples["train"].count + 5000)
    few = replace(manifest.triples["validation"], count=1)
    triples = {"train": train, "validation": few, "test": test}
    manifest = replace(manifest, triples=triples, heldout=manifest.heldout | {"test": heldout})
    write_manifest(dataset, manifest)
    code, _, faults = verify(dataset, capsys)
    assert code == 1
    text = "\n".join(faults)
    assert f"triples/test-00000-of-00001.tfrecord: row 1: head {nodes} is not from 0 to" in text
    assert "triples/test-00000-of-00001.tfrecord: row 2: tail -5 is not from 0 to" in text
    assert "triples/test-00000-of-00001.tfrecord: row 0: relation 99 is not from 0 to 3" in text
    assert "triples/test-00000-of-00001.tfrecord: row 2: mirrored 2 is not from 0 to 1" in text
    assert f"heldout/test-00000-of-00001.tfrecord: row 0: node {nodes} is not" in text
    assert "triples/train-00000-of-00001.tfrecord: 1024 rows where the manifest counts 5" in text
    assert "validation-00000-of-00001.tfrecord: row 1: relation" in text
    assert "in the padding" in text


def test_a_changed_manifest_is_a_fault_and_a_missing_one_an_input_error(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((dataset / "manifest.json").read_text())
    value["counts"]["facts"] += 1
    (dataset / "manifest.json").write_text(json.dumps(value))
    code, _, faults = verify(dataset, capsys)
    assert code == 1
    assert "the manifest was changed after it was written" in faults[0]
    with pytest.raises(InputError, match="not a dataset directory"):
        verify_shards.main([str(tmp_path)])


def test_tfds_metadata_is_optional(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(dataset / "tfds")
    assert verify(dataset, capsys)[0] == 0


def test_the_command_exits_with_the_code(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / PROTEINS).unlink()
    monkeypatch.setattr("sys.argv", ["verify_shards", str(dataset)])
    with pytest.raises(SystemExit) as stop:
        cli.run(verify_shards.main)
    assert stop.value.code == 1


def test_effective_rank_counts_directions() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    signs = np.array([[(i >> k) & 1 for k in range(4)] for i in range(16)]) * 2.0 - 1
    assert effective_rank(signs @ basis[:4]) == pytest.approx(4, rel=1e-6)
    assert effective_rank(signs[:, :1] @ basis[:1] + 5) == pytest.approx(1, rel=1e-3)
    assert effective_rank(np.ones((9, 5))) == 0
    stretched = (signs * [3, 1, 1e-9, 1e-9]) @ basis[:4]
    p = np.array([0.75, 0.25])
    assert effective_rank(stretched) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_quality_statistics(dtype: type) -> None:
    x = np.random.default_rng(0).normal(size=(5000, 6)).astype(dtype)
    x[7] *= 20
    x[:, 2] = 3
    x[4000] = x[1]
    x[4999] = x[4998] = x[2]
    statistics = dict(zip(HEADER, quality(x), strict=True))
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    assert (statistics["vectors"], statistics["dim"]) == (5000, 6)
    assert statistics["norm min"] == pytest.approx(norms.min(), rel=1e-3)
    assert statistics["median"] == pytest.approx(np.median(norms), rel=1e-3)
    assert statistics["max"] == pytest.approx(norms[7], rel=1e-3)
    assert statistics["constant columns"] == 1
    assert statistics["shared vectors"] == shared_vectors(x) == 5
    assert 4.8 < statistics["effective rank"] <= 5.001
