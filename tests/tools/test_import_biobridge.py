"""Import of a clone of the reference repository and its weights, and export of the weights."""

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from bridge_jax import evaluate
from bridge_jax.config import from_json
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.graph import TripleType, load_graph
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.models.bridge import bridge, project, triple_type_ids
from bridge_jax.training import hooks as loop
from bridge_jax.training import trainer
from bridge_jax.training.train_step import TrainState
from tests.helpers.biobridge_clone import (
    RELATIONS,
    TYPES,
    make_clone,
    model_config,
    weights,
)
from tools import export_biobridge
from tools.biobridge import run as released_run
from tools.biobridge.run import read_released_weights
from tools.biobridge.weights import from_params
from tools.import_biobridge import main

pytestmark = pytest.mark.usefixtures("no_fsync")

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "fixtures/parity_small.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def clone(tmp_path: Path, golden: dict[str, np.ndarray]) -> Path:
    return make_clone(tmp_path / "BioBridge", golden)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, golden: dict[str, np.ndarray]) -> Path:
    """A folder with the imported dataset `out` and the converted run `run`; never write into it."""
    root = tmp_path_factory.mktemp("converted")
    source = make_clone(root / "BioBridge", golden)
    assert main(import_argv(source, "--checkpoint", str(root / "run"))) == 0
    return root


def import_argv(clone: Path, *more: str) -> list[str]:
    return ["--input", str(clone), "--output", str(clone.parent / "out"), *more]


def test_ids_and_split_are_the_released_ones(converted):
    manifest = read_manifest(converted / "out")
    assert [(t.name, t.dim) for t in manifest.node_types] == list(
        zip(TYPES, (24, 40, 16, 0), strict=True)
    )
    assert manifest.node_types[3].count == 0
    assert manifest.relations == RELATIONS
    assert manifest.counts == {
        "rows": 31, "facts": 24, "mirrored": 2, "duplicates": 2, "rejects": 3,
        "rejects: display_relation '7' is not in data_config.json": 1,
        "rejects: no embeddings of type anatomy": 1, "rejects: self-loop": 1,
    }  # fmt: skip
    graph = load_graph(converted / "out", manifest)
    assert graph.directed
    assert {s: len(f) for s, f in graph.facts.items()} == {"train": 21, "validation": 0, "test": 5}
    assert manifest.split["rule"] == "biobridge"
    assert not manifest.split["clean"]
    assert manifest.split["leaks"]["test"]["mirror"] == 2


def test_nodes_have_ids_and_names_of_the_feature_tables(converted, golden):
    table = read_manifest(converted / "out").table("gene/protein")
    ids, x = read_nodes(converted / "out", table)
    i = golden["head_type"].tolist().index(0)
    np.testing.assert_array_equal(x[ids.index(str(5000 + i))], golden[f"head/{i}"])
    names = (converted / "out/nodes/gene_protein.tsv").read_text()
    assert f"{5000 + i}\tGENE{i}\n" in names
    assert table.encoder == "esm2b_unimo_pubmedbert/protein.pkl"


def test_the_converted_checkpoint_gives_the_golden_numbers(converted, golden):
    run = workdirs.load_run(converted / "run")
    model, params = run.experiment.model, run.params["model"]
    types = {end: [TYPES[t] for t in golden[f"{end}_type"]] for end in ("head", "tail")}
    projected = {}
    for end, node_types in types.items():
        rows = []
        for i, node_type in enumerate(node_types):  # find the vector in the dataset, by its bits
            table = run.experiment.tables[node_type]
            at = [np.array_equal(v, golden[f"{end}/{i}"]) for v in table.stored].index(True)
            vector = jnp.asarray(table.model_inputs(slice(at, at + 1)))
            rows.append(project(model, params, node_type, vector)[0])
        projected[end] = jnp.stack(rows)
    relations = [RELATIONS[r] for r in golden["relation"]]
    triple_types = list(map(TripleType, types["head"], relations, types["tail"]))
    ids = jnp.asarray(triple_type_ids(model, triple_types))
    bridged = jax.jit(partial(bridge, model))(params, projected["head"], jnp.arange(24), ids)
    np.testing.assert_allclose(bridged, golden["transformed"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(projected["tail"], golden["projected_tail"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_converted_run_can_be_evaluated(converted, capsys):
    assert evaluate.main(["--workdir", str(converted / "run"), "--baselines"]) == 0
    assert "bridge" in capsys.readouterr().out
    results = json.loads((converted / "run/eval/test/results.json").read_text())
    assert results["about"]["split_rule"] == "biobridge"
    about = json.loads((converted / "run/run.json").read_text())
    assert about["converted"]["file"].endswith("model.npz")


def test_exported_weights_equal_the_imported_ones(converted, golden, tmp_path):
    torch = pytest.importorskip("torch")
    argv = ["--workdir", str(converted / "run"), "--output", str(tmp_path)]
    assert export_biobridge.main(argv) == 0
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    expected = weights(golden)
    assert set(state) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name].numpy(), value, err_msg=name)
    assert json.loads((tmp_path / "model_config.json").read_text()) == model_config()
    vocabulary = json.loads((tmp_path / "data_config.json").read_text())
    assert list(vocabulary["node_type"]) == list(TYPES)
    assert vocabulary["emb_dim"] == {"gene/protein": 24, "drug": 40, "disease": 16}
    with pytest.raises(InputError, match="exists already; pass --overwrite"):
        export_biobridge.main(argv)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.npz"])
def test_weights_are_read_from_each_format(tmp_path, golden, name):
    torch = pytest.importorskip("torch")
    arrays = weights(golden)
    if name.endswith(".npz"):
        np.savez(tmp_path / name, **arrays)
    elif name.endswith(".bin"):
        torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, tmp_path / name)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, tmp_path / name)
    (tmp_path / "model_config.json").write_text(json.dumps(model_config()))
    released = read_released_weights(tmp_path)
    assert released.file.name == name
    assert set(released.state_dict) == set(arrays)
    for key, value in arrays.items():
        np.testing.assert_array_equal(released.state_dict[key], value, err_msg=key)


def test_training_continues_from_the_released_weights(clone, golden, monkeypatch):
    run_config = released_run.run_config

    def short_config(*args: object) -> ConfigDict:
        config = run_config(*args)
        config.update({"batch": {"size": 256}, "train": {"steps": 1}})
        return config

    def idle_step(state: TrainState, *_: object, **__: object) -> tuple[TrainState, dict]:
        return state._replace(step=state.step + 1), {"loss": 0.0 * state.step}

    def init_with_zeros(
        init_params: Callable, optimizer: Any, seed: int, sharding: Any, with_ema: bool
    ) -> TrainState:
        shapes = jax.eval_shape(init_params, jax.random.key(0))
        params = jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), shapes)
        state = TrainState(np.zeros((), np.int32), params, optimizer.init(params))
        return jax.device_put(state, sharding)

    monkeypatch.setattr(trainer, "init_state", init_with_zeros)
    monkeypatch.setattr(released_run, "run_config", short_config)
    monkeypatch.setattr(trainer, "train_step", idle_step)
    monkeypatch.setattr(loop, "validate", lambda *_: {"mrr": 0.0})
    workdir = clone.parent / "run"
    main(import_argv(clone, "--checkpoint", str(workdir)))
    assert trainer.train(from_json(json.loads((workdir / "config.json").read_text())), workdir)
    run = workdirs.load_run(workdir, step=1)
    state_dict = from_params(run.params["model"], run.experiment.model)
    for name, value in weights(golden).items():
        np.testing.assert_array_equal(state_dict[name], value, err_msg=name)


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "model_config.json").read_text()) | changes
    (folder / "model_config.json").write_text(json.dumps(config))


def change_weights(folder: Path, **changes: np.ndarray | None) -> None:
    """Replaces arrays, or removes those given as None; `__` in a name stands for a dot."""
    with np.load(folder / "model.npz") as arrays:
        state_dict = dict(arrays) | {k.replace("__", "."): v for k, v in changes.items()}
    np.savez(folder / "model.npz", **{k: v for k, v in state_dict.items() if v is not None})


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "types": (lambda f: change_config(f, n_node=10), "n_node is 10; the dataset has 4"),
    "dims": (lambda f: change_config(f, proj_dim={"0": 2560}), r"proj_dim is .*2560.*dataset has"),
    "missing key": (
        lambda f: (f / "model_config.json").write_text('{"proj_dim": {}}'),
        "lacks n_node, n_relation",
    ),
    "no config": (lambda f: (f / "model_config.json").unlink(), "needs one model_config.json"),
    "no weights": (lambda f: (f / "model.npz").unlink(), "none of pytorch_model.bin"),
    "pointer": (lambda f: (f / "model.npz").write_bytes(POINTER), "run `git lfs pull`"),
    "cut": (lambda f: (f / "model.npz").write_bytes(b"PK" * 9), "cannot be read"),
    "left over": (lambda f: change_weights(f, more=np.zeros(1, "f4")), "do not fit: more"),
    "lacking": (lambda f: change_weights(f, proj_layer__2__weight=None), "lack 'proj_layer.2.w"),
    "shape": (
        lambda f: change_weights(f, proj_layer__2__weight=np.zeros((12, 9), "f4")),
        r"project_disease/kernel has shape \(9, 12\); the model has \(16, 12\)",
    ),
    "dtype": (
        lambda f: change_weights(f, proj_layer__2__weight=np.zeros((12, 16))),
        "is float64; released weights are float32",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_weights_that_do_not_fit_make_no_run(clone, name):
    change, message = UNFIT[name]
    change(clone / "checkpoints")
    workdir = clone.parent / "run"
    with pytest.raises(InputError, match=message):
        main(import_argv(clone, "--checkpoint", str(workdir)))
    assert not workdir.exists()


def test_a_workdir_that_is_not_empty_is_left_alone(clone):
    (clone.parent / "run").mkdir()
    (clone.parent / "run/config.json").write_text("{}")
    with pytest.raises(InputError, match="is not empty; choose another --checkpoint"):
        main(import_argv(clone, "--checkpoint", str(clone.parent / "run")))
    assert not (clone.parent / "out").exists()


def test_validation_rows_come_from_training_heads(clone, golden):
    types = golden["head_type"].tolist(), golden["tail_type"].tolist()
    with open(clone / "data/BindData/train_test_split/triplet_train.csv", "a") as file:
        for i in range(18):  # every head gets three tails, every tail three heads
            for j in (i + 1, i + 2):
                file.write(f"\n{100 + i},{200 + j},0,x,{types[0][i]},{types[1][j]}")
    main(import_argv(clone, "--validation-fraction", "0.3", "--seed", "3"))
    manifest = read_manifest(clone.parent / "out")
    graph = load_graph(clone.parent / "out", manifest)
    train, validation, test = (graph.facts[s] for s in ("train", "validation", "test"))
    assert len(test) == 5
    assert len(train) + len(validation) == 57
    assert len(validation) > 0
    assert not set(validation.head) & set(train.head)
    assert set(graph.heldout["validation"]) == set(validation.head)


def test_a_gap_in_the_codes_is_refused(clone):
    file = clone / "data/BindData/data_config.json"
    value = json.loads(file.read_text())
    value["relation_type"]["associated with"] = 5
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match="codes of relation_type must be 0 to 2; they are 0, 1, 5"):
        main(import_argv(clone))


def test_a_relation_without_rows_keeps_its_code(clone):
    file = clone / "data/BindData/data_config.json"
    value = json.loads(file.read_text())
    value["relation_type"] = {"target": 0, "indication": 1, "associated with": 2, "carrier": 3}
    file.write_text(json.dumps(value))
    main(import_argv(clone))
    assert read_manifest(clone.parent / "out").relations == (*RELATIONS, "carrier")


def pickle_drugs(clone: Path, value: object) -> None:
    """Replaces the pickle of the drugs by another value, or by raw bytes."""
    path = clone / "data/embeddings/esm2b_unimo_pubmedbert/drug.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))


VECTORS = {"node_index": [1, 2], "embedding": np.ones((2, 3), "f4")}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (POINTER, "drug.pkl: this is a Git LFS pointer: run `git lfs pull`"),
        (pickle.dumps(VECTORS)[:-20], "damaged"),
        (b"PK\x03\x04", "a ZIP archive and no pickle"),
        ([1, 2], "must hold a dict with 'node_index' and 'embedding'"),
        ({"embedding": [[1.0]]}, "must hold a dict with 'node_index' and 'embedding'"),
        (VECTORS | {"node_index": ["a", "b"]}, "node_index must be integers"),
        (VECTORS | {"node_index": [1, 2, 3]}, "they are int64 \\(3,\\) and float32 \\(2, 3\\)"),
        (VECTORS | {"embedding": [[1.0], [1.0, 2.0]]}, "vectors of different lengths"),
        (VECTORS | {"embedding": np.zeros((2, 3), "f4")}, "all-zero vector"),
    ],
)
def test_unusable_embeddings_are_refused(clone, value, message):
    pickle_drugs(clone, value)
    with pytest.raises(InputError, match=message):
        main(import_argv(clone))
    assert not (clone.parent / "out/manifest.json").exists()
