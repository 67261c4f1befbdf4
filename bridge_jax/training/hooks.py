"""Logs, validates, checkpoints and decides early stopping after each training step.

A dataset without validation queries (the split of a release) is trained all the same; its best
checkpoint is then its latest.
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

CHECKPOINT_METRICS = ("mrr", "hits@10")  # stored beside each checkpoint


class TrainingHooks:
    """What happens around the steps of a run; the steps themselves are in `trainer`.

    Configuration: `experiment` (its config, dataset and model), `num_steps`.
    Outputs: `checkpoints`, `writer`, `progress`.
    State: `val_mrr_by_step`, and the metrics of the last step, which are fetched one step late.
    """

    def __init__(
        self,
        experiment: Experiment,
        evaluators: Mapping[str, Evaluator],
        checkpoints: Checkpoints,
        writer: MetricsWriter,
        progress: Progress,
        num_steps: int,
        val_mrr_by_step: Mapping[str, float],
    ) -> None:
        """Stores configuration, outputs and the state of a resumed run.

        Args:
          experiment: The run's config, dataset and model.
          evaluators: Evaluators of each validation; empty for a dataset without such queries.
          checkpoints: Where states are saved.
          writer: Where scalars are written.
          progress: Progress display.
          num_steps: Total number of training steps.
          val_mrr_by_step: Validation MRR of the run so far, by step (as text).
        """
        self.experiment, self.num_steps = experiment, num_steps
        self.checkpoints, self.writer, self.progress = checkpoints, writer, progress
        self.val_mrr_by_step = {int(step): mrr for step, mrr in val_mrr_by_step.items()}
        self._evaluators = evaluators
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        # Throughput since the last save; None before the first step, which compiles.
        self._clock: float | None = None
        self._rows = 0

    @property
    def best_step(self) -> int:
        """The first step with the highest validation MRR."""
        return max(self.val_mrr_by_step, key=lambda s: (self.val_mrr_by_step[s], -s))

    @property
    def should_stop_early(self) -> bool:
        """Whether the last `patience` validations brought no new best."""
        config = self.experiment.config.train
        if not config.patience or not self.val_mrr_by_step:
            return False
        return max(self.val_mrr_by_step) - self.best_step >= config.patience * config.validate_every

    def on_step_end(self, step: int, state: TrainState, metrics: dict[str, jax.Array]) -> None:
        """Handles the metrics of the step before, then validates and saves if due.

        Args:
          step: Number of steps dispatched so far.
          state: State after the step.
          metrics: Scalars of the step, possibly still being computed.
        """
        config = self.experiment.config.train
        self.flush_metrics()
        self._pending = (step, metrics)
        due = config.validate_every and step % config.validate_every == 0
        if step == self.num_steps or due:
            self.flush_metrics()
            self.save(step, state, self._validate(step, state) if self._evaluators else None)
        elif config.save_every and step % config.save_every == 0:
            self.save(step, state)

    def save(
        self, step: int, state: TrainState, validation: dict[str, float] | None = None
    ) -> None:
        """Starts saving a state whose loss is finite; a step that is already saved is skipped.

        If a save fails (a full disk), it is reported when the next one is due, earlier checkpoints
        stay, and training goes on.

        Args:
          step: Number of finished steps.
          state: State to save.
          validation: Validation metrics of this state, if it was validated.
        """
        self.flush_metrics()
        try:
            self.checkpoints.wait()
        except CheckpointWriteError as e:
            self._report_failed_save(e)
        data = {
            "seed": self.experiment.config.seed,
            "step": step,
            "manifest": self.experiment.manifest.hash(),
            "validations": {str(s): mrr for s, mrr in self.val_mrr_by_step.items()},
        }
        config = configs.to_json(self.experiment.config)
        try:
            self.checkpoints.save(state, step, data, config, validation)
        except CheckpointWriteError as e:
            self._report_failed_save(e)
        self._clock, self._rows = time.monotonic(), 0

    def finish(self, step: int, state: TrainState) -> None:
        """Saves the last state and waits until it is on disk.

        Args:
          step: Number of finished steps.
          state: State to save.

        Raises:
          CheckpointWriteError: The state could not be written.
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
        if self.val_mrr_by_step:
            best = self.best_step
            mrr = self.val_mrr_by_step[best]
            self.progress.print(f"best validation MRR {mrr:.4f}, at step {best:,}")

    def flush_metrics(self) -> None:
        """Fetches and logs the metrics of the last step; the device already computes the next.

        Raises:
          InputError: The loss is not finite.
        """
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
        if step % self.experiment.config.train.log_every == 0 or step == self.num_steps:
            shown: dict[str, Any] = {"loss": values["loss"]}
            if self._rows:
                values["triples_per_second"] = self._rows / max(now - self._clock, 1e-9)
                shown["triples/s"] = f"{values['triples_per_second']:,.0f}"
            self.writer.write(step, values)
            if self.val_mrr_by_step:
                shown["val_mrr"] = self.val_mrr_by_step[max(self.val_mrr_by_step)]
            self.progress.update(step, **shown)

    def _report_failed_save(self, e: CheckpointWriteError) -> None:
        good = self.checkpoints.latest()
        earlier = f"that of step {good} is there" if good else "there is none yet"
        self.progress.print(
            f"a checkpoint could not be written ({e}); {earlier}; training goes on and tries again"
        )

    def _validate(self, step: int, state: TrainState) -> dict[str, float]:
        values = validate(self.experiment, state.evaluated, self._evaluators)
        self.val_mrr_by_step[step] = values["mrr"]
        self.writer.write(step, {f"validation/{k}": v for k, v in values.items()})
        return {k: values[k] for k in CHECKPOINT_METRICS}


def validation_evaluators(experiment: Experiment) -> dict[str, Evaluator]:
    """Makes the evaluators of every validation: `retrieval`, and those that the config names.

    Args:
      experiment: The run's config, dataset and model.

    Returns:
      Evaluators by name; empty if the dataset has no validation query.
    """
    if not any(len(pairs.heads) for pairs in experiment.queries["validation"].values()):
        return {}
    names = ("retrieval", *experiment.config.evaluate.evaluators)
    return make_evaluators(experiment, names, "validation")


def validate(
    experiment: Experiment, params: Params, evaluators: Mapping[str, Evaluator] | None = None
) -> dict[str, float]:
    """Runs all validation evaluators on `params`.

    Args:
      experiment: The run's config, dataset and model.
      params: Parameters to evaluate.
      evaluators: Evaluators by name; default: `validation_evaluators`.

    Returns:
      `mrr` and `hits@10`, macro-averaged over a sample of the validation queries, and
      `<evaluator>/<name>` for the other values.
    """
    if evaluators is None:
        evaluators = validation_evaluators(experiment)
    scorer = experiment.scorer(params)
    return {
        metric if metric in CHECKPOINT_METRICS else f"{name}/{metric}": value
        for name, evaluator in evaluators.items()
        for metric, value in evaluator(scorer)
    }
