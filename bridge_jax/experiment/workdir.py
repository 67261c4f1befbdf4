"""A run's folder: its config, its provenance, and a trained run loaded from it."""

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
from bridge_jax.data.dataset import Manifest
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import Checkpoints
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Params
from bridge_jax.models.pretrained import is_exported
from bridge_jax.models.scorer import BridgeScorer

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


@dataclass(frozen=True)
class TrainedRun:
    """A trained run: its setup, and the parameters of one checkpoint."""

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
    changes: Sequence[str] = (),
) -> TrainedRun:
    """Open a trained run at its best checkpoint.

    Args:
      workdir: where `train` wrote.
      dataset: another place of the same dataset; by default the config's.
      step: a checkpoint's step; by default the best by validation.
      changes: `--config.evaluate.<field>=<value>`, for this time alone.

    Raises:
      InputError: another field is to change; not a run, or no checkpoint yet; or the dataset is
        not the one it was trained on.
    """
    folder = Path(workdir)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{workdir}: not a run (no config.json); train one with --workdir {workdir}"
        )
    if is_exported(folder):
        raise InputError(
            f"{workdir} is an exported bridge, which retrieves and projects; here the run is "
            "needed that it was exported from"
        )
    config = configs.from_json(json.loads(path.read_text()))
    for item in changes:
        configs.override(config, item)
        if not item.startswith("--config.evaluate."):
            raise InputError(f"{item}: a trained run takes other fields of config.evaluate alone")
    if dataset:
        config.dataset = dataset
    checkpoints = Checkpoints(folder, read_only=True)
    chosen = checkpoints.best() if step is None else step
    if chosen is None:
        raise InputError(f"{workdir}: no checkpoint yet; run the training command again to go on")
    if chosen not in (there := checkpoints.steps()):
        raise InputError(
            f"{workdir}: no checkpoint of step {chosen}; there are: {', '.join(map(str, there))}"
        )
    experiment = Experiment.from_config(config)
    check_dataset(folder, checkpoints.data(chosen)["manifest"], experiment.manifest, config.dataset)
    part = "ema" if config.train.ema else "params"
    params = checkpoints.restore(chosen, {part: experiment.abstract_params()}, partial=True)[part]
    checkpoints.close()
    return TrainedRun(folder, experiment, params, chosen)


def check_dataset(workdir: Path, trained_on: str, manifest: Manifest, dataset: str) -> None:
    """Refuse a dataset that differs from the one a run was trained on.

    Raises:
      InputError: the manifests' hashes differ.
    """
    if trained_on != manifest.hash():
        raise InputError(
            f"{workdir} belongs to another dataset (manifest {trained_on[:12]}; {dataset} has "
            f"{manifest.hash()[:12]}); choose another --workdir or restore the dataset"
        )


def create_or_check_workdir(workdir: Path, experiment: Experiment) -> None:
    """Make a workdir this run's: write `config.json` and `run.json`, or check that they agree.

    How it is evaluated, and where the dataset lies, may change; `config.json` follows.

    Raises:
      InputError: the folder holds a run of another config or dataset; nothing is changed.
    """
    path, about = workdir / "config.json", workdir / "run.json"
    ours = configs.to_json(experiment.config)
    if path.is_file():
        theirs = configs.from_json(json.loads(path.read_text()))
        check_dataset(
            workdir,
            json.loads(about.read_text())["manifest_sha256"],
            experiment.manifest,
            experiment.config.dataset,
        )
        both = zip(configs.flatten(experiment.config), configs.flatten(theirs), strict=True)
        others = [
            f"{name} = {old!r}, not {new!r}"
            for (name, new), (_, old) in both
            if new != old and not name.startswith("evaluate.") and name != "dataset"
        ]
        if others:
            raise InputError(
                f"{workdir} holds a run with {'; '.join(others)}; choose another --workdir, or "
                "remove this one to start over"
            )
        if ours != configs.to_json(theirs):
            write_json(path, ours)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(
        about,
        {
            "dataset": experiment.manifest.name,
            "manifest_sha256": experiment.manifest.hash(),
            **provenance(),
        },
    )
    write_json(path, ours)


def provenance() -> dict[str, Any]:
    """Versions, commit, machine and command, to stand beside every figure."""
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
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    started = ["-m", spec.name] if spec else [Path(sys.argv[0]).name]
    return " ".join(["python", *started, *sys.argv[1:]])


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
