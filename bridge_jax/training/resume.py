"""Restores the newest checkpoint of a run that is not damaged."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import CheckpointReader
from bridge_jax.experiment.checkpoint_files import DamagedCheckpointError, IncompleteCheckpointError
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.process_agreement import all_or_none, gather_json
from bridge_jax.experiment.workdir import check_config, check_dataset
from bridge_jax.training.train_step import TrainState


class Resumed(NamedTuple):
    """State of a run that goes on.

    Attributes:
      state: State of the checkpoint.
      step: Its step.
      data: Its item `data`.
    """

    state: TrainState
    step: int
    data: Mapping[str, Any]


def restore_latest(
    workdir: Path, experiment: Experiment, abstract_state: TrainState
) -> Resumed | None:
    """Restores the newest good checkpoint; damaged ones after it are moved to `damaged/`.

    To be called by all processes, before the checkpoints are opened for writing.

    Args:
      workdir: Folder of the run.
      experiment: Config, dataset and model of the run.
      abstract_state: Shapes, dtypes and shardings of the state.

    Returns:
      State, step and `data` of the checkpoint; None for a new run.

    Raises:
      InputError: The checkpoints belong to another config or dataset, or none of them is good.
    """
    reader = CheckpointReader(workdir)
    steps = _from_first_process(reader.steps())
    damaged: list[DamagedCheckpointError] = []
    resumed = None
    for step in reversed(steps):
        resumed, error = _try(reader, step, workdir, experiment, abstract_state)
        if resumed is not None:
            break
        assert error is not None
        damaged.append(error)
    if resumed is None and damaged:
        raise InputError(
            f"{damaged[0]}; no other checkpoint is good; start over in another --workdir"
        )
    all_or_none(lambda: _set_aside(reader, damaged, resumed))
    return resumed


def _try(
    reader: CheckpointReader,
    step: int,
    workdir: Path,
    experiment: Experiment,
    abstract_state: TrainState,
) -> tuple[Resumed | None, DamagedCheckpointError | None]:
    """Restores one checkpoint; it is good if it is so for all processes."""
    resumed, error = None, None
    try:
        record = reader.record(step)
        check_config(workdir, record, experiment.config)
        dataset = experiment.config.dataset
        check_dataset(workdir, record.data["manifest"], experiment.manifest, dataset)
        resumed = Resumed(reader.restore(record, abstract_state), step, record.data)
    except DamagedCheckpointError as e:
        error = e
    if jax.process_count() > 1:
        reasons = [r["reason"] for r in gather_json({"reason": error and error.reason})]
        if error is None and any(reasons):
            error = DamagedCheckpointError(reader.folder / str(step), next(filter(None, reasons)))
    return (resumed, None) if error is None else (None, error)


def _set_aside(
    reader: CheckpointReader, damaged: list[DamagedCheckpointError], resumed: Resumed | None
) -> None:
    """Moves damaged checkpoints away, and older ones whose JSON would stop Orbax."""
    for error in damaged:
        target = reader.set_aside(int(error.path.name))
        assert resumed is not None
        print(
            f"{error}; moved to {target}; going on from the checkpoint of step {resumed.step}",
            file=sys.stderr,
        )
    for step in reader.steps():
        try:
            reader.record(step)
        except IncompleteCheckpointError:
            continue  # a killed run had begun to delete it; the next save finishes that
        except DamagedCheckpointError as e:
            print(f"{e}; moved to {reader.set_aside(step)}", file=sys.stderr)


def _from_first_process(steps: list[int]) -> list[int]:
    return steps if jax.process_count() == 1 else list(gather_json({"steps": steps})[0]["steps"])
