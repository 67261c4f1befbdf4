"""The folder of a run: its config, its provenance, and the trained run loaded from it."""

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.files import write_json
from bridge_jax.data.manifest import Manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import CheckpointReader
from bridge_jax.experiment.checkpoint_files import CheckpointRecord, DamagedCheckpointError
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.run_files import CONFIG, PROVENANCE, read_config, read_provenance
from bridge_jax.models.bridge import Params
from bridge_jax.models.pretrained import is_pretrained
from bridge_jax.models.scorer import BridgeScorer

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")
RETRIES = 4  # of a read that failed, while training may have deleted the checkpoint; 1.5 s in all


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

    @property
    def step_of_total(self) -> str:
        """The step of the checkpoint among those of the run, e.g. `step 100 of 2,000`."""
        num_steps = read_provenance(self.workdir).get("progress", {}).get("num_steps")
        return f"step {self.step:,}" + (f" of {num_steps:,}" if num_steps else "")


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
    if not (folder / CONFIG).is_file():
        raise InputError(f"{workdir}: not a run (no {CONFIG}); train one with --workdir {workdir}")
    if is_pretrained(folder):
        raise InputError(
            f"{workdir} is an exported bridge, which retrieves and projects; this needs the "
            "run that it was exported from"
        )
    config = read_config(folder)
    for item in overrides:
        configs.override(config, item)
        if not item.startswith("--config.evaluate."):
            raise InputError(f"{item}: only fields of config.evaluate can be set for a trained run")
    if dataset:
        config.dataset = dataset
    reader = CheckpointReader(folder)
    _check_step(reader, step)  # before the dataset is opened, which takes longer
    experiment = Experiment.from_config(config)
    part = "ema" if config.train.ema else "params"
    abstract_params = {part: experiment.abstract_params()}
    attempt = 0
    while True:
        _check_step(reader, step)
        steps = reader.steps()
        try:
            chosen = step if step is not None else reader.best()
            record = reader.record(chosen)
            check_config(folder, record, config)
            check_dataset(folder, record.data["manifest"], experiment.manifest, config.dataset)
            params = reader.restore(record, abstract_params, partial=True)[part]
            if record.arrays is not None or chosen in reader.steps():
                return TrainedRun(folder, experiment, params, chosen)
        except DamagedCheckpointError as e:
            # A run that trains may have deleted it meanwhile: list again.
            attempt += reader.steps() == steps
            if attempt > RETRIES:
                raise _with_remedy(e, reader, abstract_params) from e
        time.sleep(0.05 * 2**attempt)


def _check_step(reader: CheckpointReader, step: int | None) -> None:
    """Raises an `InputError` if there is no checkpoint, or none of a step that was asked for."""
    workdir, steps = reader.folder.parent, reader.steps()
    if not steps:
        raise InputError(f"{workdir}: no checkpoint yet; run the training command again to go on")
    if step is not None and step not in steps:
        raise InputError(
            f"{workdir}: no checkpoint of step {step}; there are: {', '.join(map(str, steps))}"
        )


def _with_remedy(
    e: DamagedCheckpointError, reader: CheckpointReader, abstract_params: Any
) -> DamagedCheckpointError:
    """Adds the last good checkpoint before a damaged one, or else any other, to the message."""
    step = int(e.path.name)
    good = reader.latest_good(abstract_params, before=step) or reader.latest_good(abstract_params)
    if good is None:
        return DamagedCheckpointError(e.path, e.reason, "no other one is good; train again")
    remedy = f"that of step {good} is good: pass --step {good}, or run the training command again"
    return DamagedCheckpointError(e.path, e.reason, remedy)


def check_config(workdir: Path, record: CheckpointRecord, config: ConfigDict) -> None:
    """Refuses a config that differs from the one that a checkpoint was trained with.

    Raises:
      InputError: A field other than the dataset's folder and those of `evaluate` differs.
    """
    if differences := _differences(config, configs.from_json(dict(record.config))):
        raise InputError(
            f"{workdir / CONFIG}: differs from the config of the checkpoint of step {record.step}, "
            f"which has {'; '.join(differences)}; restore the file, or delete it and run the "
            "training command with that config again"
        )


def _differences(config: ConfigDict, stored: ConfigDict) -> list[str]:
    """Lists the fields that a run may not change, as `name = stored value, not value`."""
    both = zip(configs.flatten(config), configs.flatten(stored), strict=True)
    return [
        f"{name} = {old!r}, not {new!r}"
        for (name, new), (_, old) in both
        if new != old and not name.startswith("evaluate.") and name != "dataset"
    ]


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
    path = workdir / CONFIG
    manifest, current = experiment.manifest, configs.to_json(experiment.config)
    about = {"dataset": manifest.name, "manifest_sha256": manifest.hash()}
    if path.is_file():
        stored = read_config(workdir)
        recorded = read_provenance(workdir)
        trained_on = str(recorded.get("manifest_sha256", manifest.hash()))
        check_dataset(workdir, trained_on, manifest, experiment.config.dataset)
        if differences := _differences(experiment.config, stored):
            raise InputError(
                f"{workdir} holds a run with {'; '.join(differences)}; choose another --workdir, "
                "or remove this one to start over"
            )
        if not recorded:
            write_json(workdir / PROVENANCE, {**about, **provenance()})
        if current != configs.to_json(stored):
            write_json(path, current)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / PROVENANCE, {**about, **provenance()})
    write_json(path, current)


def provenance() -> dict[str, Any]:
    """Returns versions, commit, machine and command, to be stored beside every result."""
    return {
        "command": _command(),
        "versions": versions(),
        "git_commit": _git_commit(),
        "machine": platform.machine(),
        "devices": [str(d.device_kind) for d in jax.devices()],
    }


def versions() -> dict[str, str]:
    """Returns the versions of this package, Python and the packages that decide the results."""
    from bridge_jax import __version__

    return {
        "bridge_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
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
