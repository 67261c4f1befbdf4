"""The story of a training run, from the config to the last checkpoint."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from bridge_jax.data.batches import Batch, Batches
from bridge_jax.distributed.mesh import process_slice, replicated, shard_batch
from bridge_jax.distributed.placement import with_vectors
from bridge_jax.evaluation.comparison import check_rows
from bridge_jax.experiment.checkpoint import Checkpoints, abstract_like
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.metric_writer import MetricsWriter
from bridge_jax.experiment.workdir import check_dataset, create_or_check_workdir
from bridge_jax.progress import Progress
from bridge_jax.training.device_data import put_device_data
from bridge_jax.training.hooks import TrainingHooks, validators
from bridge_jax.training.objective import Objective
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.preemption import PreemptionHandler
from bridge_jax.training.prefetch import prefetch
from bridge_jax.training.train_step import TrainState, init_state, train_step


class PeerProcessError(RuntimeError):
    """Another process of the run has died."""


def train(config: ConfigDict, workdir: Path) -> bool:
    """Train until the last step, resuming from the last checkpoint.

    Args:
      config: a locked config.
      workdir: where the run lives; created, or resumed.

    Returns:
      Whether the run is complete; False after SIGTERM, once a checkpoint is saved.

    Raises:
      InputError: the config, dataset and workdir do not fit together, or the loss is not finite.
      ProcessGone: another process of the run has died.
      NotSavedError: the last state could not be written.
    """
    experiment = Experiment.from_config(config)
    batches = Batches(
        experiment.graph.pairs(["train"]),
        config.batch.size,
        config.batch.sampling_alpha,
        config.seed,
        config.batch.shards,
    )
    steps = config.train.steps or max(1, round(config.train.epochs * batches.per_epoch))
    objective = Objective(
        experiment.model,
        batches.groups,
        experiment.graph.triple_types,
        config.loss,
        experiment.mesh,
        config.batch.grad_cache,
        config.model.node_embedding_dropout,
    )
    optimizer = make_optimizer(config.optimizer, steps)
    check_rows(config.evaluate)
    asked = validators(experiment)
    first = jax.process_index() == 0
    if first:
        create_or_check_workdir(workdir, experiment)

    # Resume order: the state's shapes, the newest complete checkpoint into them, then the step
    # decides everything else: the batch, the dropout and the schedule are functions of it.
    checkpoints = Checkpoints(workdir, config.train.keep, config.train.best)
    decay, placed = config.train.ema, replicated(experiment.mesh)
    state = init_state(experiment.init_params, optimizer, config.seed, placed, averaged=decay > 0)
    latest = checkpoints.latest()
    start, saved = latest or 0, dict[str, Any]()
    if latest is not None:  # a converted checkpoint stands at step 0
        saved = checkpoints.data(start)
        check_dataset(workdir, saved["manifest"], experiment.manifest, config.dataset)
        state = checkpoints.restore(start, abstract_like(state))

    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer, decay=decay),
        donate_argnums=0,
    )
    data = put_device_data(experiment)
    writer = MetricsWriter(workdir, start, active=first)
    progress = Progress(steps, active=first)
    progress.print(_headline(experiment, batches, state, steps, start))
    loop = TrainingHooks(
        experiment, asked, checkpoints, writer, progress, steps, saved.get("validations", {})
    )
    stop = PreemptionHandler()
    key, step = jax.random.key(config.seed), start
    try:
        ahead = prefetch(map(partial(_batch, experiment, batches), range(start, steps)))
        with closing(ahead) as following:
            while step < steps and not loop.enough and not stop.now(step):
                batch = shard_batch(experiment.mesh, next(following))
                state, metrics = update(state, batch, data, key)
                step += 1
                loop.after(step, state, metrics)
        loop.finish(step, state)
    except jax.errors.JaxRuntimeError as e:
        if jax.process_count() == 1:
            raise
        raise PeerProcessError("another process of this run has died") from e
    finally:
        writer.close()
    progress.close()
    if stop.requested:
        progress.print(f"stopped by SIGTERM at step {step}; the same command goes on from there")
    return not stop.requested


def _batch(experiment: Experiment, batches: Batches, step: int) -> Batch:
    """This process's part of a step's batch, with its vectors when the tables stay on the host."""
    batch = batches(step, process_slice(batches.shards))
    if experiment.placement != "host":
        return batch
    return with_vectors(batch, batches.groups, experiment.tables, experiment.config.tables.dtype)


def _headline(
    experiment: Experiment, batches: Batches, state: TrainState, steps: int, start: int
) -> str:
    graph, size = experiment.graph, sum(p.size for p in jax.tree.leaves(state.params))
    pairs = sum(len(p.heads) for p in batches.pairs.values())
    resumed = f", resuming at {start:,}" if start else ""
    return (
        f"{experiment.manifest.name}: {sum(graph.counts):,} nodes of {len(graph.node_types)} types, "
        f"{pairs:,} training triples of {len(batches.groups)} types\n"
        f"{experiment.model.arch} bridge with {size:,} parameters, {steps:,} steps of "
        f"{batches.size:,} triples ({steps * batches.size / pairs:.1f} epochs){resumed}"
    )
