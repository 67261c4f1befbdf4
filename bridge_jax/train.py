"""Train a bridge.

    python -m bridge_jax.train --config configs/demo.py --workdir runs/demo

Any field of the config can be changed with --config.<field>=<value>. The same command resumes a run
that was cut, and evaluates one that is complete.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from bridge_jax import cli, evaluate
from bridge_jax import config as configs
from bridge_jax.batches import Batch, Batches
from bridge_jax.checkpoint import Checkpoints, NotSavedError, abstract_like
from bridge_jax.loop import Loop, Stop
from bridge_jax.mesh import join_processes, own_shards, replicated, spread
from bridge_jax.metrics import MetricsWriter, Progress
from bridge_jax.objective import Objective
from bridge_jax.optimizer import make_optimizer
from bridge_jax.placement import with_vectors
from bridge_jax.prefetch import Prefetch
from bridge_jax.run import Setup, check_dataset, claim, set_up
from bridge_jax.state import TrainState, init_state, train_step
from bridge_jax.watch import gone, watched


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    config = configs.load(args.config, overrides)
    join_processes(args.coordinator, args.num_processes, args.process_id)
    try:
        with watched(Path(args.workdir)) if jax.process_count() > 1 else nullcontext():
            finished = train(config, Path(args.workdir))
    except (ProcessGone, NotSavedError) as e:
        # An orderly exit would wait for the process that is gone, or for a save that never ends.
        print(f"error: {e}", file=sys.stderr, flush=True)
        os._exit(2)
    if finished and not args.no_evaluate and jax.process_index() == 0:
        evaluate.main(["--workdir", args.workdir])
    if Checkpoints.failed:
        sys.stdout.flush()
        os._exit(0)
    return 0


class ProcessGone(RuntimeError):
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
    setup = set_up(config)
    batches = Batches(
        setup.graph.pairs(["train"]),
        config.batch.size,
        config.batch.exponent,
        config.seed,
        config.batch.shards,
    )
    steps = config.train.steps or max(1, round(config.train.epochs * batches.per_epoch))
    objective = Objective(
        setup.model,
        batches.groups,
        setup.graph.triple_types,
        config.loss,
        setup.mesh,
        config.batch.cached,
        config.model.residual_dropout,
    )
    optimizer = make_optimizer(config.optimizer, steps)
    first = jax.process_index() == 0
    if first:
        claim(workdir, setup)

    # Resume order: the state's shapes, the newest complete checkpoint into them, then the step
    # decides everything else: the batch, the dropout and the schedule are functions of it.
    checkpoints = Checkpoints(workdir, config.train.keep, config.train.best)
    decay, placed = config.train.ema, replicated(setup.mesh)
    state = init_state(setup.init_params, optimizer, config.seed, placed, averaged=decay > 0)
    latest = checkpoints.latest()
    start, saved = latest or 0, dict[str, Any]()
    if latest is not None:  # a converted checkpoint stands at step 0
        saved = checkpoints.data(start)
        check_dataset(workdir, saved["manifest"], setup.manifest, config.dataset)
        state = checkpoints.restore(start, abstract_like(state))

    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer, decay=decay),
        donate_argnums=0,
    )
    writer = MetricsWriter(workdir, start, active=first)
    progress = Progress(steps, start, active=first)
    progress.say(_headline(setup, batches, state, steps, start))
    loop = Loop(setup, checkpoints, writer, progress, steps, saved.get("validations", {}))
    stop = Stop()
    key, step = jax.random.key(config.seed), start
    try:
        with Prefetch(partial(_batch, setup, batches), start, steps) as following:
            while step < steps and not loop.enough and not stop.now(step):
                batch = spread(setup.mesh, following())
                state, metrics = update(state, batch, setup.data, key)
                step += 1
                loop.after(step, state, metrics)
        loop.finish(step, state)
    except jax.errors.JaxRuntimeError as e:
        if jax.process_count() == 1:
            raise
        raise ProcessGone(gone(workdir)) from e
    finally:
        writer.close()
    progress.close()
    if stop.requested:
        progress.say(f"stopped by SIGTERM at step {step}; the same command goes on from there")
    return not stop.requested


def _batch(setup: Setup, batches: Batches, step: int) -> Batch:
    """This process's part of a step's batch, with its vectors when the tables stay on the host."""
    batch = batches(step, own_shards(batches.shards))
    if setup.placement != "host":
        return batch
    return with_vectors(batch, batches.groups, setup.tables, setup.config.tables.dtype)


def _headline(setup: Setup, batches: Batches, state: TrainState, steps: int, start: int) -> str:
    graph, size = setup.graph, sum(p.size for p in jax.tree.leaves(state.params))
    pairs = sum(len(p.heads) for p in batches.pairs.values())
    resumed = f", resuming at {start:,}" if start else ""
    return (
        f"{setup.manifest.name}: {sum(graph.counts):,} nodes of {len(graph.node_types)} types, "
        f"{pairs:,} training triples of {len(batches.groups)} types\n"
        f"{setup.model.form} bridge with {size:,} parameters, {steps:,} steps of "
        f"{batches.size:,} triples ({steps * batches.size / pairs:.1f} epochs){resumed}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.train", __doc__)
    parser.add_argument("--config", required=True, help="a config file, e.g. configs/demo.py")
    parser.add_argument("--workdir", required=True, help="where the run lives, e.g. runs/demo")
    parser.add_argument("--no-evaluate", action="store_true", help="skip the test table at the end")
    group = parser.add_argument_group(
        "several processes (found by themselves on SLURM and TPU pods)"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    group.add_argument("--num-processes", type=int, metavar="N")
    group.add_argument("--process-id", type=int, metavar="I", help="from 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
