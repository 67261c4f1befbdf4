"""Runs a sweep: trains every setting with several seeds and compares them.

    python -m bridge_jax.sweep --config configs/ablations/negatives.py --workdir runs/negatives

A sweep is a config file with a second function, `sweep()`, that yields (name, {field: value}) for
each setting. A trial is one setting with one seed, trained and tested by
`python -m bridge_jax.train` in a process of its own. The same command again resumes interrupted
trials and skips finished ones, which have made their last step, or were ended by patience, and were
tested. If a trial fails, it is reported and the others continue.
--config.<field>=<value> changes every trial.

The command prints a table and writes sweep.{json,md,png} in the workdir. Select a setting by the
validation column; the test column is for reporting.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import FrameType

from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError
from bridge_jax.experiment import sweep_results
from bridge_jax.experiment.sweep_results import Trial

LAUNCHERS = ("local", "print", "ray")
_stopped_by: list[signal.Signals] = []  # signals that this process has passed on to a trial


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    trials = plan(args.config, Path(args.workdir), args.seeds, overrides)
    if args.launcher == "print":
        print("\n".join(shlex.join(["python", *t.command]) for t in trials))
        return 0
    with output_lock(args.workdir):
        return _run_trials(trials, args)


def _run_trials(trials: Sequence[Trial], args: argparse.Namespace) -> int:
    pending = [t for t in trials if not t.finished]
    _log(f"{len(trials)} trials, {len(trials) - len(pending)} already finished")
    runs = _run_on_ray(pending, args.trial_gpus) if args.launcher == "ray" else map(_run, pending)
    failed = {}
    for number, (trial, seconds) in enumerate(runs, 1):
        if _stopped_by:
            return _report_stop(trial)
        if not trial.finished:
            failed[trial] = trial.error_message()
        outcome = failed.get(trial) or f"test MRR {trial.result().test:.3f}"
        _log(f"{number}/{len(pending)}  {trial}  {seconds:.0f} s  {outcome}")
    results = sweep_results.collect(trials)
    if results.settings:
        sweep_results.write(results, args.workdir)
        print(sweep_results.as_text(results))
        print(f"\nwritten to {args.workdir}/sweep.{{json,md,png}}")
    for trial, error_message in failed.items():
        print(f"failed: {trial}: {error_message}; full log: {trial.log}", file=sys.stderr)
    return 1 if failed else 0


def _report_stop(trial: Trial) -> int:
    """Says where a sweep was stopped; the trial has saved a checkpoint."""
    number = _stopped_by[0]
    message = f"stopped by {number.name} in {trial}; the same command goes on from there"
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message)
    _log(message)
    return 0


def plan(spec: str, workdir: Path, num_seeds: int, overrides: Sequence[str] = ()) -> list[Trial]:
    """Lists the trials of a sweep and checks their configs, before any of them starts.

    Args:
      spec: Config file that defines `get_config()` and `sweep()`.
      workdir: Folder of the sweep; that of a trial is `<workdir>/<setting>/seed<n>`.
      num_seeds: Number of seeds of each setting, from 0 on.
      overrides: `--config.<field>=<value>` for every trial; the fields of a setting take
        precedence.

    Raises:
      InputError: The file or a field does not exist, a value has the wrong type, or a setting's
        name cannot name a folder.
    """
    if num_seeds < 1:
        raise InputError(f"--seeds {num_seeds}: must be at least 1")
    settings = configs.load_sweep(spec)
    trials = []
    # Seed by seed, so that an interrupted sweep has compared all its settings.
    for seed, (name, fields) in product(range(num_seeds), settings):
        if not name or set(name) & set("/\\\0") or name.startswith("."):
            raise InputError(f"{spec}: setting {name!r} cannot name a folder; rename it in sweep()")
        setting = [f"--config.{field}={value}" for field, value in fields.items()]
        changes = [*overrides, *setting, f"--config.seed={seed}"]
        folder = workdir / name.replace(" ", "-") / f"seed{seed}"
        trials.append(Trial(name, seed, folder, spec, changes, configs.load(spec, changes)))
    return trials


def _run(trial: Trial) -> tuple[Trial, float]:
    """Trains and tests a trial in a process of its own; returns it and the seconds it took."""
    start = time.monotonic()
    _execute(trial.command, str(trial.log.absolute()), os.getcwd())
    return trial, time.monotonic() - start


def _execute(command: Sequence[str], log: str, folder: str) -> None:
    workdir = Path(log).parent
    workdir.mkdir(parents=True, exist_ok=True)
    # The seeds of a setting compile the same programs.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parents[1] / "compiled")}
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            # A trial that outlives a killed sweep would hold the lock of its folder.
            env={**cache, **os.environ, cli.END_WITH_PARENT: "1"},
            start_new_session=True,  # Ctrl-C reaches the trial once, through this process
        )
    with _forwarded_signals(process):
        process.wait()


@contextmanager
def _forwarded_signals(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Passes signals on to a trial, which saves a checkpoint and ends, while the context lasts."""

    def forward(number: int, _: FrameType | None) -> None:
        _stopped_by.append(signal.Signals(number))
        process.send_signal(number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _run_on_ray(trials: Sequence[Trial], num_gpus: float) -> Iterator[tuple[Trial, float]]:
    """Runs trials in parallel on a Ray cluster, whose machines share the file system."""
    from bridge_jax.distributed.ray import cluster

    with cluster() as ray:
        remote = ray.remote(num_gpus=num_gpus, max_retries=2)(_execute)
        pending = {
            remote.remote(t.command, str(t.log.absolute()), os.getcwd()): (t, time.monotonic())
            for t in trials
        }
        while pending:
            done, _ = ray.wait(list(pending))
            trial, start = pending.pop(done[0])
            yield trial, time.monotonic() - start


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.sweep", __doc__)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--config", required=True, help="sweep file, e.g. configs/ablations/negatives.py"
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--workdir", required=True, help="folder of the sweep, e.g. runs/negatives"
    )
    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="number of seeds of each setting, from 0 on; default: 3",
    )
    execution.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="where trials run: local, one after the other; ray, in parallel on a Ray cluster; "
        "print, nowhere: print one shell command per trial; default: local",
    )
    execution.add_argument(
        "--trial-gpus",
        type=float,
        default=0.0,
        metavar="N",
        help="GPUs of each trial with --launcher ray; default: 0",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
