"""TensorFlow Datasets reads the same values from a dataset directory as the project's reader."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import read_columns, read_nodes, write_nodes
from bridge_jax.data.manifest import Manifest, file_name, read_manifest, write_manifest
from bridge_jax.data.tfrecord import triple_layout
from tools.ingest.tfds import write_tfds


@pytest.fixture(scope="module")
def tfds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tensorflow")
        return pytest.importorskip("tensorflow_datasets")


def load(tfds, folder: Path, split: str) -> dict[str, list]:
    """Returns the values of all records by feature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder = tfds.builder_from_directory(folder)
        data = builder.as_dataset(
            split=split, read_config=tfds.ReadConfig(interleave_cycle_length=1)
        )
        rows = list(tfds.as_numpy(data))
        assert builder.info.splits[split].num_examples == len(rows)
    return {key: [row[key] for row in rows] for key in rows[0]}


def test_nodes_are_identical(tfds, excerpt_dataset: Path) -> None:
    manifest = read_manifest(excerpt_dataset)
    for table in manifest.node_types:
        ids, x = read_nodes(excerpt_dataset, table)
        loaded = load(tfds, excerpt_dataset / "tfds/nodes" / file_name(table.name), "nodes")
        assert [i.rstrip(b"\0").decode() for i in loaded["id"]] == ids
        np.testing.assert_array_equal(np.stack(loaded["embedding"]), x, strict=True)


def test_triples_are_identical(tfds, excerpt_dataset: Path) -> None:
    manifest = read_manifest(excerpt_dataset)
    for split, file in manifest.triples.items():
        columns = read_columns(excerpt_dataset, file, triple_layout())
        loaded = load(tfds, excerpt_dataset / "tfds/triples", split)
        assert sorted(loaded) == sorted(columns)
        for name, values in columns.items():
            flat = np.concatenate(loaded[name])
            np.testing.assert_array_equal(flat[flat >= 0], values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_shards_of_other_dtypes_are_identical(tfds, tmp_path: Path, dtype: str) -> None:
    import ml_dtypes

    numpy_dtype = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    x = np.random.default_rng(1).normal(size=(10, 3)).astype(numpy_dtype)
    ids = [f"D{i}" for i in range(10)]
    table = write_nodes(tmp_path, "drug", ids, x, shard_records=4)
    manifest = Manifest("x", (table,), (), (), {}, {}, {}, {})
    write_tfds(tmp_path, manifest)
    write_manifest(tmp_path, manifest)
    loaded = load(tfds, tmp_path / "tfds/nodes/drug", "nodes")
    assert [i.rstrip(b"\0").decode() for i in loaded["id"]] == ids
    assert np.array_equal(np.stack(loaded["embedding"]).view(np.uint8), x.view(np.uint8))
