"""What happens around the training steps: log, validate, save, stop.

A dataset without validation queries (a released split) is trained all the same; its best checkpoint
is then its latest.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import jax

from bridge_jax import config as configs
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators import Evaluator, make_evaluators
from bridge_jax.experiment.checkpoint import Checkpoints, CheckpointWriteError
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.metric_writer import MetricsWriter
from bridge_jax.models.bridge import Params
from bridge_jax.progress import Progress
from bridge_jax.training.train_step import TrainState


class TrainingHooks:
    """The books of a run; the steps themselves are in `trainer`."""

    def __init__(
        self,
        experiment: Experiment,
        asked: Mapping[str, Evaluator],
        checkpoints: Checkpoints,
        writer: MetricsWriter,
        progress: Progress,
        steps: int,
        validations: dict[str, float],
    ) -> None:
        """Hold what is written to.

        Args:
          setup: of the run.
          asked: of `validators`; none for a dataset without validation queries.
          checkpoints: where states go.
          writer: where scalars go.
          progress: the live line.
          steps: of the whole run.
          validations: MRR by step, of the run so far.
        """
        self.experiment, self._asked = experiment, asked
        self.checkpoints, self.writer = checkpoints, writer
        self.progress, self.steps = progress, steps
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._clock: float | None = None  # it starts with the first step, which compiles
        self._rows = 0
        self._found = {int(step): mrr for step, mrr in validations.items()}

    @property
    def enough(self) -> bool:
        """Whether the last `patience` validations brought no new best."""
        config = self.experiment.config.train
        if not config.patience or not self._found:
            return False
        return max(self._found) - self._best >= config.patience * config.validate_every

    @property
    def _best(self) -> int:
        """The first step with the best validation."""
        return max(self._found, key=lambda s: (self._found[s], -s))

    def after(self, step: int, state: TrainState, metrics: dict[str, jax.Array]) -> None:
        """Step `step` was dispatched: look at the one before, then validate and save if due."""
        config = self.experiment.config.train
        self._settle()
        self._pending = (step, metrics)
        if step == self.steps or (config.validate_every and step % config.validate_every == 0):
            self._settle()
            self.save(step, state, self._validate(step, state) if self._asked else None)
        elif config.save_every and step % config.save_every == 0:
            self.save(step, state)

    def save(
        self, step: int, state: TrainState, validation: dict[str, float] | None = None
    ) -> None:
        """Start saving a state whose loss is finite; a step that is saved already is left alone.

        A save that fails (a full disk) is reported when the next one is due, the checkpoints
        before it stay, and training goes on.
        """
        self._settle()
        try:
            self.checkpoints.wait()
        except CheckpointWriteError as e:
            self._say_unsaved(e)
        data = {
            "seed": self.experiment.config.seed,
            "step": step,
            "manifest": self.experiment.manifest.hash(),
            "validations": {str(s): mrr for s, mrr in self._found.items()},
        }
        config = configs.to_json(self.experiment.config)
        try:
            self.checkpoints.save(state, step, data, config, validation)
        except CheckpointWriteError as e:
            self._say_unsaved(e)
        self._clock, self._rows = time.monotonic(), 0

    def finish(self, step: int, state: TrainState) -> None:
        """Save the last state and wait for it.

        Raises:
          NotSavedError: it could not be written.
        """
        self.save(step, state)
        try:
            self.checkpoints.wait()
        except CheckpointWriteError as e:
            raise CheckpointWriteError(
                f"the checkpoint of step {step} could not be written ({e}); make room, and the "
                f"same command goes on from step {self.checkpoints.latest() or 0}"
            ) from e
        self.checkpoints.close()
        if self._found:
            best = self._best
            self.progress.print(f"best validation MRR {self._found[best]:.4f}, at step {best:,}")

    def _say_unsaved(self, e: CheckpointWriteError) -> None:
        good = self.checkpoints.latest()
        there = f"that of step {good} is there" if good else "none is there yet"
        self.progress.print(
            f"a checkpoint could not be written ({e}); {there}; training goes on and tries again"
        )

    def _settle(self) -> None:
        """Fetch the pending metrics; the device is already at work on the next step."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = {k: float(v) for k, v in metrics.items()}
        if not all(abs(v) < float("inf") for v in values.values()):
            with contextlib.suppress(CheckpointWriteError):
                self.checkpoints.wait()
            good = self.checkpoints.latest()
            where = f"the checkpoint of step {good} is good" if good else "no checkpoint yet"
            raise InputError(
                f"step {step}: the loss is not finite ({values}); {where}; "
                "lower optimizer.learning_rate or optimizer.clip"
            )
        now, size = time.monotonic(), self.experiment.config.batch.size
        if self._clock is None:
            self._clock = now
        else:
            self._rows += size
        if step % self.experiment.config.train.log_every == 0 or step == self.steps:
            shown: dict[str, Any] = {"loss": values["loss"]}
            if self._rows:
                values["triples_per_second"] = self._rows / max(now - self._clock, 1e-9)
                shown["triples/s"] = f"{values['triples_per_second']:,.0f}"
            self.writer.write(step, values)
            if self._found:
                shown["val_mrr"] = self._found[max(self._found)]
            self.progress.update(step, **shown)

    def _validate(self, step: int, state: TrainState) -> dict[str, float]:
        values = validate(self.experiment, state.evaluated, self._asked)
        self._found[step] = values["mrr"]
        self.writer.write(step, {f"validation/{k}": v for k, v in values.items()})
        return {k: values[k] for k in ("mrr", "hits@10")}


def validators(experiment: Experiment) -> dict[str, Evaluator]:
    """What every validation asks: `retrieval`, and the config's; none without a query."""
    if not any(len(asked.heads) for asked in experiment.queries["validation"].values()):
        return {}
    return make_evaluators(
        experiment, ("retrieval", *experiment.config.evaluate.evaluators), "validation"
    )


def validate(
    experiment: Experiment, params: Params, asked: Mapping[str, Evaluator] | None = None
) -> dict[str, float]:
    """Ask everything of a state of the training.

    Args:
      setup: of the run.
      params: to be asked.
      asked: `validators`; made anew unless given.

    Returns:
      `mrr` and `hits@10`, macro-averaged over a sample of the validation queries, and
      `<evaluator>/<name>` for what else the evaluators found.
    """
    scorer = experiment.scorer(params)
    out = {}
    for evaluator, ask in (validators(experiment) if asked is None else asked).items():
        for name, value in ask(scorer):
            out[name if name in ("mrr", "hits@10") else f"{evaluator}/{name}"] = value
    return out
