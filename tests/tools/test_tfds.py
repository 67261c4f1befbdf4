"""TensorFlow Datasets loads a dataset directory and gives what the project's own reader gives."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import (
    read_blocks,
    read_manifest,
    read_nodes,
    write_manifest,
    write_nodes,
)
from bridge_jax.data.tfrecord import triple_layout
from tests.helpers.tiny_run import EXCERPT
from tools import import_graph
from tools.ingest.tfds import write_tfds

DTYPES = {"drug": "float32", "gene/protein": "float16", "disease": "bfloat16"}


@pytest.fixture(scope="module")
def tfds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tensorflow")
        return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    edges = import_graph.FORMATS["primekg"](EXCERPT)
    rng = np.random.default_rng(0)
    for kind in {n.type for n in edges.nodes}:
        ids = [n.id for n in edges.nodes if n.type == kind]
        x = rng.normal(size=(len(ids), 5)).astype(np.float16)
        np.savez(folder / f"{kind.replace('/', '_')}.npz", ids=np.array(ids), x=x)
    output = folder / "graph"
    import_graph.main(["--format", "primekg", "--input", str(EXCERPT), "--embeddings", str(folder),
                       "--output", str(output)])  # fmt: skip
    return output


def load(tfds, folder: Path, split: str) -> dict[str, list]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder = tfds.builder_from_directory(folder)
        data = builder.as_dataset(
            split=split, read_config=tfds.ReadConfig(interleave_cycle_length=1)
        )
        rows = list(tfds.as_numpy(data))
        assert builder.info.splits[split].num_examples == len(rows)
    return {key: [row[key] for row in rows] for key in rows[0]}


def test_nodes_are_identical(tfds, dataset: Path) -> None:
    manifest = read_manifest(dataset)
    for table in manifest.node_types:
        ids, x = read_nodes(dataset, table)
        found = load(tfds, dataset / "tfds/nodes" / table.name.replace("/", "_"), "nodes")
        assert [i.rstrip(b"\0").decode() for i in found["id"]] == ids
        stacked = np.stack(found["embedding"])
        assert stacked.dtype == x.dtype
        assert np.array_equal(stacked, x)


def test_triples_are_identical(tfds, dataset: Path) -> None:
    manifest = read_manifest(dataset)
    for split, file in manifest.triples.items():
        ours = read_blocks(dataset, file, triple_layout())
        found = load(tfds, dataset / "tfds/triples", split)
        assert sorted(found) == sorted(ours)
        for name, values in ours.items():
            flat = np.concatenate(found[name])
            assert np.array_equal(flat[flat >= 0], values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_shards_and_every_dtype_keep_their_order(
    tfds, dataset: Path, tmp_path: Path, dtype: str
) -> None:
    import ml_dtypes

    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    x = np.random.default_rng(1).normal(size=(10, 3)).astype(kind)
    ids = [f"D{i}" for i in range(10)]
    table = write_nodes(tmp_path, "drug", ids, x, shard_records=4)
    old = read_manifest(dataset)
    manifest = type(old)("x", (table,), (), (), {}, {}, {}, {})
    write_tfds(tmp_path, manifest)
    write_manifest(tmp_path, manifest)
    found = load(tfds, tmp_path / "tfds/nodes/drug", "nodes")
    assert [i.rstrip(b"\0").decode() for i in found["id"]] == ids
    assert np.array_equal(np.stack(found["embedding"]).view(np.uint8), x.view(np.uint8))
