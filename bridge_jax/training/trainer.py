"""The training loop, from the config to the last checkpoint."""

import signal
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from bridge_jax.data.batches import Batch, Batches
from bridge_jax.distributed.mesh import process_slice, replicated, shard_batch
from bridge_jax.distributed.placement import with_vectors
from bridge_jax.evaluation.comparison import check_rows
from bridge_jax.experiment.checkpoint import Checkpoints, abstract_like
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.metric_writer import MetricsWriter
from bridge_jax.experiment.process_agreement import all_or_none, check_processes_agree
from bridge_jax.experiment.run_files import record_progress
from bridge_jax.experiment.workdir import create_or_check_workdir
from bridge_jax.progress import Progress
from bridge_jax.training.device_data import put_device_data
from bridge_jax.training.hooks import TrainingHooks, validation_evaluators
from bridge_jax.training.objective import Objective
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.preemption import PreemptionHandler
from bridge_jax.training.prefetch import prefetch
from bridge_jax.training.resume import restore_latest
from bridge_jax.training.train_step import TrainState, init_state, train_step


class PeerProcessError(RuntimeError):
    """Another process of the run has died."""


def train(config: ConfigDict, workdir: Path) -> bool:
    """Trains until the last step; resumes from the last good checkpoint if there is one.

    Args:
      config: Locked config.
      workdir: Folder of the run; created, or resumed.

    Returns:
      Whether the run is complete: False after SIGTERM or SIGHUP, once a checkpoint is saved.

    Raises:
      InputError: Config, dataset and workdir do not fit together, the processes differ, or the
        loss is not finite.
      KeyboardInterrupt: SIGINT has asked for the end; a checkpoint is saved, unless it came twice.
      PeerProcessError: Another process of the run has died.
      CheckpointWriteError: The last state could not be written.
    """
    with PreemptionHandler() as preemption:
        step, is_complete = _train(config, workdir, preemption)
    if is_complete or preemption.requested is None:
        return True
    stopped = f"stopped by {preemption.requested.name} at step {step}"
    message = f"{stopped}; the same command goes on from there"
    if preemption.requested == signal.SIGINT:
        raise KeyboardInterrupt(message)
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)
    return False


def _train(config: ConfigDict, workdir: Path, preemption: PreemptionHandler) -> tuple[int, bool]:
    """Trains; returns the number of finished steps and whether the run is complete."""
    check_processes_agree(config)
    experiment = Experiment.from_config(config)
    batches = Batches(
        experiment.graph.pairs(["train"]),
        config.batch.size,
        config.batch.sampling_alpha,
        config.seed,
        config.batch.shards,
    )
    num_steps = config.train.steps or max(1, round(config.train.epochs * batches.steps_per_epoch))
    objective = Objective(
        experiment.model,
        batches.groups,
        experiment.graph.triple_types,
        config.loss,
        experiment.mesh,
        config.batch.grad_cache,
        config.model.node_embedding_dropout,
    )
    optimizer = make_optimizer(config.optimizer, num_steps)
    check_rows(config.evaluate)
    evaluators = validation_evaluators(experiment)
    is_first_process = jax.process_index() == 0
    all_or_none(lambda: create_or_check_workdir(workdir, experiment))

    # Resume order: 1. the shapes of the state; 2. the newest good checkpoint, restored into
    # them; 3. its step, of which the batch, the dropout masks and the schedule are functions.
    ema_decay, sharding = config.train.ema, replicated(experiment.mesh)
    state = init_state(
        experiment.init_params, optimizer, config.seed, sharding, with_ema=ema_decay > 0
    )
    resumed = restore_latest(workdir, experiment, abstract_like(state))
    start, validations = 0, dict[str, float]()
    if resumed is not None:  # a converted checkpoint has step 0
        state, start = resumed.state, resumed.step
        validations = dict(resumed.data.get("validations", {}))
    checkpoints = Checkpoints(workdir, config.train.keep, config.train.best)
    if is_first_process and start < num_steps:
        record_progress(workdir, start, num_steps)

    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer, ema_decay=ema_decay),
        donate_argnums=0,
    )
    data = put_device_data(experiment)
    writer = MetricsWriter(workdir, start, active=is_first_process)
    progress = Progress(num_steps, active=is_first_process)
    progress.print(_headline(experiment, batches, state, num_steps, start))
    hooks = TrainingHooks(
        experiment, evaluators, checkpoints, writer, progress, num_steps, validations
    )
    key, step = jax.random.key(config.seed), start
    steps_ahead = map(partial(_local_batch, experiment, batches), range(start, num_steps))
    try:
        with closing(prefetch(steps_ahead)) as local_batches:
            while step < num_steps and not (
                hooks.should_stop_early or preemption.should_stop(step)
            ):
                batch = shard_batch(experiment.mesh, next(local_batches))
                state, metrics = update(state, batch, data, key)
                step += 1
                hooks.on_step_end(step, state, metrics)
        hooks.finish(step, state)
    except jax.errors.JaxRuntimeError as e:
        if jax.process_count() == 1:
            raise
        raise PeerProcessError("another process of this run has died") from e
    except KeyboardInterrupt:  # Ctrl-C for the second time
        checkpoints.abandon()
        raise
    finally:
        writer.close()
    progress.close()
    is_complete = step == num_steps or hooks.should_stop_early
    if is_first_process:
        best = checkpoints.best() if is_complete else None
        record_progress(workdir, step, num_steps, is_complete, best)
    return step, is_complete


def _local_batch(experiment: Experiment, batches: Batches, step: int) -> Batch:
    """This process's part of a batch, with its vectors if the tables stay on the host."""
    batch = batches(step, process_slice(batches.shards))
    if experiment.placement != "host":
        return batch
    return with_vectors(batch, batches.groups, experiment.tables, experiment.config.tables.dtype)


def _headline(
    experiment: Experiment, batches: Batches, state: TrainState, num_steps: int, start: int
) -> str:
    graph, model = experiment.graph, experiment.model
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    pairs = sum(len(p.heads) for p in batches.pairs.values())
    resumed = f", resuming at {start:,}" if start else ""
    return (
        f"{experiment.manifest.name}: {sum(graph.counts):,} nodes of {len(graph.node_types)} "
        f"types, {pairs:,} training triples of {len(batches.groups)} types\n"
        f"{model.arch} bridge with {parameters:,} parameters, {num_steps:,} steps of "
        f"{batches.size:,} triples ({num_steps * batches.size / pairs:.1f} epochs){resumed}"
    )
