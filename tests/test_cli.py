"""Bad input at the command line: one line that names the thing and the remedy, exit code 2."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import cli, evaluate, train
from bridge_jax.data.dataset import write_nodes
from bridge_jax.data.manifest import read_manifest, write_manifest
from bridge_jax.errors import InputError
from tests.helpers.commands import refused

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs/demo.py")


@pytest.fixture
def dataset(tiny: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "dataset"))


def train_on(dataset: Path, tmp_path: Path) -> list[str]:
    return [
        *("--config", CONFIG, "--workdir", str(tmp_path / "run")),
        f"--config.dataset={dataset}",
    ]


def damage_embeddings(dataset: Path, value: float) -> None:
    """Write a table whose checksums are right and one of whose vectors is not."""
    manifest = read_manifest(dataset)
    table = manifest.node_types[0]
    ids = [f"n{i}" for i in range(table.count)]
    x = np.ones((table.count, table.dim), np.float32)
    good = write_nodes(dataset, table.name, ids, x)
    x[7] = value
    from bridge_jax.data.dataset import encode_ids
    from bridge_jax.data.tfrecord import write_shard

    columns = {"id": encode_ids(ids, good.id_bytes), "embedding": x}
    shard = write_shard(dataset, good.shards[0].file, good.layout, columns)
    bad = type(good)(**{**vars(good), "shards": (shard,)})
    tables = (bad, *manifest.node_types[1:])
    write_manifest(dataset, type(manifest)(**{**vars(manifest), "node_types": tables}))


@pytest.mark.parametrize(
    ("value", "what"), [(np.nan, "a NaN or infinite value"), (0.0, "an all-zero vector")]
)
def test_a_bad_vector_is_named_by_file_record_and_id(
    dataset, tmp_path, capsys, monkeypatch, value, what
):
    damage_embeddings(dataset, value)
    line = refused(train.main, train_on(dataset, tmp_path), capsys, monkeypatch)
    assert what in line
    assert "record 7, id 'n7'" in line
    assert ".tfrecord" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_named(dataset, tmp_path, capsys, monkeypatch, damage):
    shard = next((dataset / "nodes").glob("*.tfrecord"))
    raw = bytearray(shard.read_bytes())
    if damage == "flip":
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw)
    elif damage == "cut":
        shard.write_bytes(raw[:-10])
    else:
        shard.unlink()
    line = refused(train.main, train_on(dataset, tmp_path), capsys, monkeypatch)
    assert shard.name in line
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_is_none(tmp_path, capsys, monkeypatch):
    line = refused(train.main, train_on(tmp_path / "nowhere", tmp_path), capsys, monkeypatch)
    assert "not a dataset directory" in line
    assert "tools.import_graph" in line


def test_a_missing_config_and_an_unknown_field(tmp_path, capsys, monkeypatch):
    arguments = ["--workdir", str(tmp_path / "run"), "--config"]
    line = refused(train.main, [*arguments, "configs/nope.py"], capsys, monkeypatch)
    assert "configs/nope.py: no such config file" in line
    field = [*arguments, CONFIG, "--config.model.layer=3"]
    line = refused(train.main, field, capsys, monkeypatch)
    assert "did you mean 'model.layers'" in line
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_is_no_run(tmp_path, capsys, monkeypatch):
    line = refused(evaluate.main, ["--workdir", str(tmp_path)], capsys, monkeypatch)
    assert "not a run (no config.json)" in line


def test_an_unknown_relation_names_the_nearest(tiny):
    from bridge_jax.data.graph import load_graph

    graph = load_graph(tiny, read_manifest(tiny))
    with pytest.raises(InputError, match=r"relation 'interact' is not in this graph.*did you mean"):
        graph.triple_type("gene/protein", "interact", "molecular_function")
    with pytest.raises(InputError, match="node type 'protein' is not in this graph"):
        graph.triple_type("protein", "interacts with", "molecular_function")
    with pytest.raises(InputError, match="triple type"):
        graph.triple_type("gene/protein", "parent-child", "molecular_function")


def test_a_bug_keeps_its_traceback():
    def broken(_: Sequence[str] | None) -> int:
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        cli.run(broken)


def test_as_a_user_would(tmp_path):
    command = [sys.executable, "-m", "bridge_jax.train", "--config", "configs/demo.py"]
    done = subprocess.run(
        [*command, "--workdir", str(tmp_path / "run"), "--config.batch.size=3"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: batch.size 3 must be a multiple of batch.shards 8")
    assert "Traceback" not in done.stderr


def test_the_package_imports_no_heavy_framework():
    heavy = "{'torch', 'tensorflow', 'transformers', 'tensorflow_datasets', 'ray', 'gradio'}"
    modules = "bridge_jax.training.trainer, bridge_jax.evaluation.comparison"
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
