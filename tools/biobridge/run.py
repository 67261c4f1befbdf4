"""Conversion of released weights to a run with a checkpoint, and of a run to released weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.files import atomic_file, sha256_of_file, write_json
from bridge_jax.data.manifest import Manifest
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
VOCABULARY = "data_config.json"
NAMES = (WEIGHTS, "model.safetensors", "model.npz")
TORCH = "pip install 'bridge_jax[torch]'"
# Values that the reference implementation fixes in its code, not in its model_config.json.
FIXED = {"arch": "transformer", "heads": 12, "mlp_dim": 2048}
_KEYS = ("n_node", "n_relation", "proj_dim", "hidden_dim", "n_layer")


@dataclass(frozen=True)
class ReleasedWeights:
    """Weights in the format of the release.

    Attributes:
      file: File of the weights.
      state_dict: float32 arrays by PyTorch name.
      config: `n_node`, `n_relation`, `proj_dim` (dimension by type code), `hidden_dim`, `n_layer`.
    """

    file: Path
    state_dict: dict[str, np.ndarray]
    config: dict[str, Any]


def read_released_weights(path: Path) -> ReleasedWeights:
    """Reads weights and their `model_config.json`.

    Args:
      path: File of the weights (`.bin`, `.safetensors`, `.npz`), its folder, or a parent folder.

    Raises:
      InputError: There are no weights or several, or they cannot be read.
    """
    folder, file = (path.parent, path) if path.is_file() else _find_weights(path)
    config_file = folder / CONFIG
    first_bytes(config_file)  # raises for a Git LFS pointer
    try:
        config = json.loads(config_file.read_bytes())
        config["proj_dim"] = {str(k): int(v) for k, v in config["proj_dim"].items()}
        missing = [k for k in _KEYS if k not in config]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{config_file}: cannot be read: {e!r}") from e
    if missing:
        raise InputError(f"{config_file}: lacks {', '.join(missing)}")
    state_dict = _read_state_dict(file)
    for name, value in state_dict.items():
        if value.dtype != np.float32:
            raise InputError(f"{file}: {name} is {value.dtype}; released weights are float32")
    return ReleasedWeights(file, state_dict, config)


def _find_weights(folder: Path) -> tuple[Path, Path]:
    """Returns the only folder with a `model_config.json`, and the weights in it."""
    folders = sorted(p.parent for p in folder.rglob(CONFIG)) if folder.is_dir() else []
    if len(folders) != 1:
        present = f"{len(folders)}: {', '.join(map(str, folders))}" if folders else "none"
        raise InputError(
            f"{folder}: needs one {CONFIG} here or below, found {present}; name --weights"
        )
    files = [p for n in NAMES if (p := folders[0] / n).is_file()]
    if not files:
        raise InputError(f"{folders[0]}: none of {', '.join(NAMES)} here; name --weights")
    return folders[0], files[0]


def _read_state_dict(file: Path) -> dict[str, np.ndarray]:
    first_bytes(file)  # raises for a Git LFS pointer
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(file))
        import torch

        state_dict = torch.load(file, map_location="cpu", weights_only=True)
        return {str(name): tensor.numpy() for name, tensor in state_dict.items()}
    except ImportError as e:
        remedy = TORCH if e.name == "torch" else f"pip install {e.name}"
        raise InputError(f"{file}: reading it needs {e.name}: {remedy}") from e
    except Exception as e:  # each library has its own errors for a file that it cannot read
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise InputError(f"{file}: cannot be read: {reason}") from e


def write_run(released: ReleasedWeights, dataset: Path, workdir: Path) -> None:
    """Writes a run with a checkpoint of released weights at step 0 and a new optimizer state.

    Args:
      released: The weights.
      dataset: Dataset directory with the released ids of types and relations.
      workdir: Workdir of the run.

    Raises:
      InputError: The weights do not fit the dataset; nothing is written.
    """
    experiment = Experiment.from_config(run_config(released.config, str(dataset)))
    expected = model_config(experiment.config, experiment.manifest)
    for key in _KEYS:
        if expected[key] != released.config[key]:
            raise InputError(
                f"{released.file.parent / CONFIG}: {key} is {released.config[key]}; the dataset "
                f"has {expected[key]}"
            )
    params = {"model": _checked_params(released, experiment)}
    # The optimizer state allows training to continue; it does not depend on the number of steps.
    optimizer = make_optimizer(experiment.config.optimizer, 1)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    state = jax.device_put(state, replicated(experiment.mesh))
    create_or_check_workdir(workdir, experiment)
    provenance = json.loads((workdir / "run.json").read_text())
    converted = {"file": str(released.file), "sha256": sha256_of_file(released.file)}
    write_json(workdir / "run.json", provenance | {"converted": converted})
    checkpoints = Checkpoints(workdir)
    data_state = {
        "seed": experiment.config.seed, "step": 0, "manifest": experiment.manifest.hash()
    }  # fmt: skip
    checkpoints.save(state, 0, data_state, configs.to_json(experiment.config), None)
    checkpoints.close()


def run_config(config: dict[str, Any], dataset: str) -> ConfigDict:
    """Returns the config of a run with released weights: raw embeddings, temperature 0.1.

    Args:
      config: Released `model_config.json`.
      dataset: Dataset directory.
    """
    out = configs.default()
    out.dataset = dataset
    out.model.update({**FIXED, "width": config["hidden_dim"], "layers": config["n_layer"]})
    out.tables.transform = "none"
    out.loss.update({"temperature": 0.1, "negatives": "sampled"})
    return out


def model_config(config: ConfigDict, manifest: Manifest) -> dict[str, Any]:
    """Returns the `model_config.json` of a run."""
    return {
        "n_node": len(manifest.node_types),
        "n_relation": len(manifest.relations),
        "proj_dim": {str(i): t.dim for i, t in enumerate(manifest.node_types) if t.dim},
        "hidden_dim": config.model.width,
        "n_layer": config.model.layers,
    }


def _checked_params(released: ReleasedWeights, experiment: Experiment) -> dict[str, Any]:
    """Returns the released weights as parameters, after a check of their shapes."""
    try:
        params = to_params(released.state_dict, experiment.model)
    except ValueError as e:
        raise InputError(f"{released.file}: {e}") from e
    abstract = experiment.abstract_params()["model"]
    for (path, value), expected in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(abstract), strict=True
    ):
        if value.shape != expected.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(
                f"{released.file}: {name} has shape {value.shape}; the model has {expected.shape}"
            )
    return params


def write_released_weights(run: TrainedRun, folder: Path) -> None:
    """Writes a run's weights as `pytorch_model.bin`, `model_config.json` and `data_config.json`.

    Args:
      run: The run.
      folder: Output folder.

    Raises:
      InputError: The reference implementation has no such model; nothing is written.
    """
    config, manifest = run.experiment.config, run.experiment.manifest
    for name, value in FIXED.items():
        if config.model[name] != value:
            raise InputError(
                f"{run.workdir}: model.{name} is {config.model[name]!r}; the reference "
                f"implementation supports only {value!r}"
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
    state_dict = from_params(jax.device_get(run.params["model"]), run.experiment.model)
    tensors = {k: torch.from_numpy(np.array(v, order="C")) for k, v in state_dict.items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        torch.save(tensors, temporary)
    write_json(folder / CONFIG, model_config(config, manifest))
    vocabulary = {
        "node_type": {t.name: i for i, t in enumerate(manifest.node_types)},
        "relation_type": {r: i for i, r in enumerate(manifest.relations)},
        "emb_dim": {t.name: t.dim for t in manifest.node_types if t.dim},
    }
    write_json(folder / VOCABULARY, vocabulary)
