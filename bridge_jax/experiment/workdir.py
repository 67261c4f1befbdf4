"""The folder of a run: its config, its provenance, and the trained run loaded from it."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from bridge_jax import config as configs
from bridge_jax.data.files import write_json
from bridge_jax.data.manifest import Manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import Checkpoints
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Params
from bridge_jax.models.pretrained import is_pretrained
from bridge_jax.models.scorer import BridgeScorer

CONFIG, PROVENANCE = "config.json", "run.json"
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


@dataclass(frozen=True)
class TrainedRun:
    """A trained run: its experiment and the parameters of one checkpoint.

    Attributes:
      workdir: Folder of the run.
      experiment: Config, dataset and model.
      params: Parameters of the checkpoint.
      step: Step of the checkpoint.
    """

    workdir: Path
    experiment: Experiment
    params: Params
    step: int

    @cached_property
    def scorer(self) -> BridgeScorer:
        """The trained bridge as a scorer."""
        return self.experiment.scorer(self.params)


def load_run(
    workdir: str | Path,
    dataset: str | None = None,
    step: int | None = None,
    overrides: Sequence[str] = (),
) -> TrainedRun:
    """Loads a trained run at one of its checkpoints.

    Args:
      workdir: Folder that `bridge_jax.train` wrote.
      dataset: Folder of the run's dataset; default: the config's.
      step: Step of a checkpoint; default: the best by validation.
      overrides: `--config.evaluate.<field>=<value>`, not saved in the run.

    Raises:
      InputError: This is not a run, it has no such checkpoint, the dataset is not the one it was
        trained on, or an override names another field.
    """
    folder = Path(workdir)
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{workdir}: not a run (no {CONFIG}); train one with --workdir {workdir}")
    if is_pretrained(folder):
        raise InputError(
            f"{workdir} is an exported bridge, which retrieves and projects; this needs the "
            "run that it was exported from"
        )
    config = configs.from_json(json.loads(path.read_text()))
    for item in overrides:
        configs.override(config, item)
        if not item.startswith("--config.evaluate."):
            raise InputError(f"{item}: only fields of config.evaluate can be set for a trained run")
    if dataset:
        config.dataset = dataset
    checkpoints = Checkpoints(folder, read_only=True)
    chosen = checkpoints.best() if step is None else step
    if chosen is None:
        raise InputError(f"{workdir}: no checkpoint yet; run the training command again to go on")
    if chosen not in (steps := checkpoints.steps()):
        raise InputError(
            f"{workdir}: no checkpoint of step {chosen}; there are: {', '.join(map(str, steps))}"
        )
    experiment = Experiment.from_config(config)
    check_dataset(folder, checkpoints.data(chosen)["manifest"], experiment.manifest, config.dataset)
    part = "ema" if config.train.ema else "params"
    params = checkpoints.restore(chosen, {part: experiment.abstract_params()}, partial=True)[part]
    checkpoints.close()
    return TrainedRun(folder, experiment, params, chosen)


def check_dataset(workdir: Path, trained_on: str, manifest: Manifest, dataset: str) -> None:
    """Refuses a dataset that differs from the one that a run was trained on.

    Args:
      workdir: Folder of the run.
      trained_on: Hash of the manifest that the run was trained on.
      manifest: Manifest of the dataset at hand.
      dataset: Folder of the dataset at hand.

    Raises:
      InputError: The hashes differ.
    """
    if trained_on != manifest.hash():
        raise InputError(
            f"{workdir} belongs to another dataset (manifest {trained_on[:12]}; {dataset} has "
            f"{manifest.hash()[:12]}); choose another --workdir or restore the dataset"
        )


def create_or_check_workdir(workdir: Path, experiment: Experiment) -> None:
    """Writes `config.json` and `run.json` into a new workdir, or checks those of an existing one.

    Fields of `config.evaluate` and the dataset's folder may differ; `config.json` is then updated.

    Args:
      workdir: Folder of the run.
      experiment: Config, dataset and model of the run.

    Raises:
      InputError: The folder holds a run with another config or dataset; nothing is changed.
    """
    path, about = workdir / CONFIG, workdir / PROVENANCE
    manifest, current = experiment.manifest, configs.to_json(experiment.config)
    if path.is_file():
        stored = configs.from_json(json.loads(path.read_text()))
        trained_on = json.loads(about.read_text())["manifest_sha256"]
        check_dataset(workdir, trained_on, manifest, experiment.config.dataset)
        both = zip(configs.flatten(experiment.config), configs.flatten(stored), strict=True)
        differences = [
            f"{name} = {old!r}, not {new!r}"
            for (name, new), (_, old) in both
            if new != old and not name.startswith("evaluate.") and name != "dataset"
        ]
        if differences:
            raise InputError(
                f"{workdir} holds a run with {'; '.join(differences)}; choose another --workdir, "
                "or remove this one to start over"
            )
        if current != configs.to_json(stored):
            write_json(path, current)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(
        about,
        {"dataset": manifest.name, "manifest_sha256": manifest.hash(), **provenance()},
    )
    write_json(path, current)


def provenance() -> dict[str, Any]:
    """Returns versions, commit, machine and command, to be stored beside every result."""
    from bridge_jax import __version__

    return {
        "command": _command(),
        "versions": {
            "bridge_jax": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "git_commit": _git_commit(),
        "machine": platform.machine(),
        "devices": [str(d.device_kind) for d in jax.devices()],
    }


def _command() -> str:
    """The command line of this process, as a user would type it."""
    name, *arguments = sys.argv
    if name.startswith("bridge-jax "):
        return " ".join([name, *arguments])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return " ".join(["python", *(["-m", spec.name] if spec else [Path(name).name]), *arguments])


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
