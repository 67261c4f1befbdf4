"""Train a bridge.

    python -m bridge_jax.train --config configs/demo.py --workdir runs/demo

Any field of the config can be changed with --config.<field>=<value>. The same command resumes a run
that was cut, and evaluates one that is complete.
"""

import argparse
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from ml_collections import ConfigDict

from bridge_jax import cli, evaluate
from bridge_jax import config as configs
from bridge_jax.batches import Batches
from bridge_jax.checkpoint import Checkpoints, abstract_like
from bridge_jax.errors import InputError
from bridge_jax.mesh import replicated, rows
from bridge_jax.metrics import MetricsWriter, Progress
from bridge_jax.objective import Objective
from bridge_jax.optimizer import make_optimizer
from bridge_jax.run import Setup, check_dataset, claim, set_up
from bridge_jax.state import TrainState, init_state, train_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    config = configs.load(args.config, overrides)
    finished = train(config, Path(args.workdir))
    if finished and not args.no_evaluate:
        evaluate.main(["--workdir", args.workdir])
    return 0


def train(config: ConfigDict, workdir: Path) -> bool:
    """Train until the last step, resuming from the last checkpoint.

    Args:
      config: a locked config.
      workdir: where the run lives; created, or resumed.

    Returns:
      Whether the run is complete; False after SIGTERM, once a checkpoint is saved.

    Raises:
      InputError: the config, dataset and workdir do not fit together, or the loss is not finite.
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
        setup.model, batches.groups, setup.graph.triple_types, config.loss, setup.mesh
    )
    optimizer = make_optimizer(config.optimizer, steps)
    claim(workdir, setup)

    # Resume order: the state's shapes, the newest complete checkpoint into them, then the step
    # decides everything else: the batch, the dropout and the schedule are functions of it.
    checkpoints = Checkpoints(workdir, config.train.keep)
    state = init_state(setup.init_params, optimizer, config.seed, replicated(setup.mesh))
    start = checkpoints.latest() or 0
    if start:
        saved = checkpoints.data(start)
        check_dataset(workdir, saved["manifest"], setup.manifest, config.dataset)
        state = checkpoints.restore(start, abstract_like(state))

    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer), donate_argnums=0
    )
    writer, progress = MetricsWriter(workdir, start), Progress(steps, start)
    progress.say(_headline(setup, batches, state, steps, start))
    loop = _Loop(setup, checkpoints, writer, progress, batches, steps)
    stop = _on_sigterm()
    key = jax.random.key(config.seed)
    for step in range(start, steps):
        batch = jax.device_put(batches(step), rows(setup.mesh))
        state, metrics = update(state, batch, setup.data, key)
        loop.after(step + 1, state, metrics, save=stop.requested)
        if stop.requested:
            break
    checkpoints.close()
    writer.close()
    progress.close()
    if stop.requested:
        progress.say(f"stopped by SIGTERM at step {step + 1}; the same command goes on from there")
    return not stop.requested


class _Loop:
    """What happens around the steps: log, validate, save."""

    def __init__(
        self,
        setup: Setup,
        checkpoints: Checkpoints,
        writer: MetricsWriter,
        progress: Progress,
        batches: Batches,
        steps: int,
    ) -> None:
        self.setup, self.checkpoints, self.writer = setup, checkpoints, writer
        self.progress, self.batches, self.steps = progress, batches, steps
        self.pending: tuple[int, dict[str, jax.Array]] | None = None
        self.mark, self.rows = time.monotonic(), 0
        self.validation = 0.0

    def after(self, step: int, state: TrainState, metrics: dict[str, Any], save: bool) -> None:
        """Step `step` was dispatched; look at the one before, then validate or save if due."""
        config = self.setup.config.train
        self._settle()
        self.pending = (step, metrics)
        last = step == self.steps
        due = last or (config.validate_every and step % config.validate_every == 0)
        save = save or bool(config.save_every and step % config.save_every == 0)
        if due or save:
            self._settle()
            values = self._validate(step, state) if due else None
            data = {
                "seed": self.setup.config.seed,
                "step": step,
                "manifest": self.setup.manifest.hash(),
            }
            self.checkpoints.save(state, step, data, configs.to_json(self.setup.config), values)
            self.mark, self.rows = time.monotonic(), 0

    def _settle(self) -> None:
        """Fetch the pending metrics; the device is already at work on the next step."""
        if self.pending is None:
            return
        (step, metrics), self.pending = self.pending, None
        values = {k: float(v) for k, v in metrics.items()}
        if not all(abs(v) < float("inf") for v in values.values()):
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            where = f"the checkpoint of step {good} is good" if good else "no checkpoint yet"
            raise InputError(
                f"step {step}: the loss is not finite ({values}); {where}; "
                "lower optimizer.learning_rate or optimizer.clip"
            )
        self.rows += self.batches.size
        if step % self.setup.config.train.log_every == 0 or step == self.steps:
            rate = self.rows / max(time.monotonic() - self.mark, 1e-9)
            self.writer.write(step, values | {"triples_per_second": rate})
            shown = {"val_mrr": self.validation} if self.validation else {}
            self.progress.update(
                step, loss=values["loss"], **{"triples/s": f"{rate:,.0f}"}, **shown
            )

    def _validate(self, step: int, state: TrainState) -> dict[str, float]:
        values = evaluate.validate(self.setup, state.params)
        self.validation = values["mrr"]
        self.writer.write(step, {f"validation/{k}": v for k, v in values.items()})
        return values


class _Stop:
    """Set by SIGTERM; the loop saves and ends after the step in hand."""

    requested = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        self.requested = True


def _on_sigterm() -> _Stop:
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    return stop


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
    parser = argparse.ArgumentParser(
        prog="python -m bridge_jax.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="a config file, e.g. configs/demo.py")
    parser.add_argument("--workdir", required=True, help="where the run lives, e.g. runs/demo")
    parser.add_argument("--no-evaluate", action="store_true", help="skip the test table at the end")
    return parser


if __name__ == "__main__":
    cli.run(main)
