"""Released weights to a run of this project, and back: files, checks, checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.dataset import Manifest
from bridge_jax.data.files import atomic_file, sha256_of_file, write_json
from bridge_jax.distributed.mesh import replicated
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import Checkpoints
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, create_or_check_workdir
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.train_step import TrainState

from ..formats.files import first_bytes
from .weights import from_params, to_params

CONFIG = "model_config.json"
WEIGHTS = "pytorch_model.bin"
NAMES = (WEIGHTS, "model.safetensors", "model.npz")
TORCH = "pip install 'bridge_jax[torch]'"
# What the reference implementation fixes in its code, in place of its model_config.json.
FIXED = {"arch": "transformer", "heads": 12, "mlp_dim": 2048}
_KEYS = ("n_node", "n_relation", "proj_dim", "hidden_dim", "n_layer")


@dataclass(frozen=True)
class Released:
    """Weights as released.

    Attributes:
      file: where they were.
      state: PyTorch names to float32 arrays.
      config: `n_node`, `n_relation`, `proj_dim` (type id to dimension), `hidden_dim`, `n_layer`.
    """

    file: Path
    state: dict[str, np.ndarray]
    config: dict[str, Any]


def read_released(path: Path) -> Released:
    """Read weights and their `model_config.json`.

    Args:
      path: the weights (`.bin`, `.safetensors`, `.npz`), their folder, or a folder above it.

    Raises:
      InputError: there are none or several, or they cannot be read.
    """
    folder, file = (path.parent, path) if path.is_file() else _find(path)
    config_file = folder / CONFIG
    try:
        config = json.loads(first_bytes(config_file) and config_file.read_bytes())
        config["proj_dim"] = {str(k): int(v) for k, v in config["proj_dim"].items()}
        missing = [k for k in _KEYS if k not in config]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{config_file}: cannot be read: {e!r}") from e
    if missing:
        raise InputError(f"{config_file}: lacks {', '.join(missing)}")
    state = _read_state(file)
    for name, value in state.items():
        if value.dtype != np.float32:
            raise InputError(f"{file}: {name} is {value.dtype}; released weights are float32")
    return Released(file, state, config)


def _find(folder: Path) -> tuple[Path, Path]:
    folders = sorted(p.parent for p in folder.rglob(CONFIG)) if folder.is_dir() else []
    if len(folders) != 1:
        found = f"{len(folders)}: {', '.join(map(str, folders))}" if folders else "none"
        raise InputError(
            f"{folder}: needs one {CONFIG} here or below, found {found}; name --weights"
        )
    files = [p for n in NAMES if (p := folders[0] / n).is_file()]
    if not files:
        raise InputError(f"{folders[0]}: none of {', '.join(NAMES)} here; name --weights")
    return folders[0], files[0]


def _read_state(file: Path) -> dict[str, np.ndarray]:
    first_bytes(file)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(file))
        import torch

        state = torch.load(file, map_location="cpu", weights_only=True)
        return {str(name): tensor.numpy() for name, tensor in state.items()}
    except ImportError as e:
        remedy = TORCH if e.name == "torch" else f"pip install {e.name}"
        raise InputError(f"{file}: reading it needs {e.name}: {remedy}") from e
    except Exception as e:  # each library has its own errors for a file that it cannot read
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise InputError(f"{file}: cannot be read: {reason}") from e


def write_run(released: Released, dataset: Path, workdir: Path) -> None:
    """Make a run of released weights, at step 0 and with a fresh optimizer.

    Args:
      released: the weights.
      dataset: the dataset directory that has the released ids of types and relations.
      workdir: the run to write.

    Raises:
      InputError: the weights do not fit the dataset; nothing is written.
    """
    experiment = Experiment.from_config(run_config(released.config, str(dataset)))
    ours, theirs = model_config(experiment.config, experiment.manifest), released.config
    for key in _KEYS:
        if ours[key] != theirs[key]:
            raise InputError(
                f"{released.file.parent / CONFIG}: {key} is {theirs[key]}; the dataset has "
                f"{ours[key]}"
            )
    params = {"model": _fitting(released, experiment)}
    # The optimizer is there so that training can go on from here; its number of steps is free.
    optimizer = make_optimizer(experiment.config.optimizer, 1)
    state = TrainState(np.zeros((), np.int32), params, optimizer.init(params))
    state = jax.device_put(state, replicated(experiment.mesh))
    create_or_check_workdir(workdir, experiment)
    about = json.loads((workdir / "run.json").read_text())
    sha256 = sha256_of_file(released.file)
    write_json(
        workdir / "run.json", about | {"converted": {"file": str(released.file), "sha256": sha256}}
    )
    checkpoints = Checkpoints(workdir)
    data = {"seed": experiment.config.seed, "step": 0, "manifest": experiment.manifest.hash()}
    checkpoints.save(state, 0, data, configs.to_json(experiment.config), None)
    checkpoints.close()


def run_config(config: dict[str, Any], dataset: str) -> ConfigDict:
    """A run's config for a released `model_config.json`: raw embeddings, temperature 0.1."""
    out = configs.default()
    out.dataset = dataset
    out.model.update({**FIXED, "width": config["hidden_dim"], "layers": config["n_layer"]})
    out.tables.transform = "none"
    out.loss.update({"temperature": 0.1, "negatives": "sampled"})
    return out


def model_config(config: ConfigDict, manifest: Manifest) -> dict[str, Any]:
    """The `model_config.json` of a run."""
    return {
        "n_node": len(manifest.node_types),
        "n_relation": len(manifest.relations),
        "proj_dim": {str(i): t.dim for i, t in enumerate(manifest.node_types) if t.dim},
        "hidden_dim": config.model.width,
        "n_layer": config.model.layers,
    }


def _fitting(released: Released, experiment: Experiment) -> dict[str, Any]:
    """The parameters, checked against the model's shapes."""
    try:
        params = to_params(released.state, experiment.model)
    except ValueError as e:
        raise InputError(f"{released.file}: {e}") from e
    expected = experiment.abstract_params()["model"]
    for (path, value), wanted in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(expected), strict=True
    ):
        if value.shape != wanted.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(
                f"{released.file}: {name} has shape {value.shape}; the model has {wanted.shape}"
            )
    return params


def write_released(run: TrainedRun, folder: Path) -> None:
    """Write a run's weights as `pytorch_model.bin`, `model_config.json` and `data_config.json`.

    Args:
      run: the run.
      folder: where to.

    Raises:
      InputError: the reference implementation has no such model; nothing is written.
    """
    config, manifest = run.experiment.config, run.experiment.manifest
    for name, value in FIXED.items():
        if config.model[name] != value:
            raise InputError(
                f"{run.workdir}: model.{name} is {config.model[name]!r}; the reference "
                f"implementation has {value!r} alone"
            )
    if config.tables.transform != "none":
        raise InputError(
            f"{run.workdir}: tables.transform is {config.tables.transform!r}; the reference "
            "implementation reads embeddings as they are; train with --config.tables.transform=none"
        )
    try:
        import torch
    except ImportError as e:
        raise InputError(f"writing {WEIGHTS} needs torch: {TORCH}") from e
    state = from_params(jax.device_get(run.params["model"]), run.experiment.model)
    tensors = {k: torch.from_numpy(np.array(v, order="C")) for k, v in state.items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        torch.save(tensors, temporary)
    write_json(folder / CONFIG, model_config(config, manifest))
    vocabulary = {
        "node_type": {t.name: i for i, t in enumerate(manifest.node_types)},
        "relation_type": {r: i for i, r in enumerate(manifest.relations)},
        "emb_dim": {t.name: t.dim for t in manifest.node_types if t.dim},
    }
    write_json(folder / "data_config.json", vocabulary)
