"""Run a study: every setting with several seeds, then one table and one plot.

    python -m bridge_jax.sweep --config configs/ablations/negatives.py --workdir runs/negatives

A study is a config file with a second function, `sweep()`, that yields (name, {field: value}). A
trial is one setting with one seed, trained and tested by `python -m bridge_jax.train` in a process
of its own. The same command again resumes the trials that were cut and skips the finished ones; a
trial that fails is reported and the others go on. --config.<field>=<value> changes every trial.

Writes sweep.{json,md,png} in the workdir. Choose by the validation column; the test column is for
the record.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.errors import InputError
from bridge_jax.experiment import sweep_results as study
from bridge_jax.experiment.sweep_results import Trial

LAUNCHERS = ("local", "print", "ray")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    trials = plan(args.config, Path(args.workdir), args.seeds, overrides)
    if args.launcher == "print":
        print("\n".join(shlex.join(["python", *t.command]) for t in trials))
        return 0
    waiting = [t for t in trials if not t.finished]
    _say(f"{len(trials)} trials, {len(trials) - len(waiting)} of them finished before")
    runs = _with_ray(waiting, args.trial_gpus) if args.launcher == "ray" else map(_run, waiting)
    failed = {}
    for number, (trial, seconds) in enumerate(runs, 1):
        if not trial.finished:
            failed[trial] = trial.error_message()
        result = failed.get(trial) or f"test MRR {trial.result().test:.3f}"
        _say(f"{number}/{len(waiting)}  {trial}  {seconds:.0f} s  {result}")
    made = study.collect(trials)
    if made.settings:
        study.write(made, args.workdir)
        print(study.as_text(made))
        print(f"\nwritten to {args.workdir}/sweep.{{json,md,png}}")
    for trial, error_message in failed.items():
        print(f"failed: {trial}: {error_message}; all it said: {trial.log}", file=sys.stderr)
    return 1 if failed else 0


def plan(spec: str, workdir: Path, seeds: int, overrides: Sequence[str] = ()) -> list[Trial]:
    """The trials of a study, checked before any of them starts.

    Args:
      spec: a config file that defines `get_config()` and `sweep()`.
      workdir: of the study; a trial's is `<workdir>/<setting>/seed<n>`.
      seeds: how many; from 0 on.
      overrides: `--config.<field>=<value>`, for every trial; a setting's own fields count more.

    Raises:
      InputError: no such file or field, a value that does not fit, or a name that is no folder's.
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least 1")
    settings = configs.load_sweep(spec)
    trials = []
    # Seed after seed, so that a study that is cut short has compared all its settings.
    for seed, (name, fields) in product(range(seeds), settings):
        if not name or set(name) & set("/\\\0") or name.startswith("."):
            raise InputError(f"{spec}: setting {name!r} cannot name a folder")
        own = [f"--config.{field}={value}" for field, value in fields.items()]
        changes = [*overrides, *own, f"--config.seed={seed}"]
        folder = workdir / name.replace(" ", "-") / f"seed{seed}"
        trials.append(Trial(name, seed, folder, spec, changes, configs.load(spec, changes)))
    return trials


def _run(trial: Trial) -> tuple[Trial, float]:
    """Train and test in a process of its own; what it says goes to the trial's log."""
    start = time.monotonic()
    _execute(trial.command, str(trial.log.absolute()), os.getcwd())
    return trial, time.monotonic() - start


def _execute(command: Sequence[str], log: str, folder: str) -> None:
    workdir = Path(log).parent
    workdir.mkdir(parents=True, exist_ok=True)
    # The seeds of a setting compile the same programs.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parents[1] / "compiled")}
    with open(log, "w") as said:
        subprocess.run(
            [sys.executable, *command],
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=cache | dict(os.environ),
        )


def _with_ray(trials: Sequence[Trial], gpus: float) -> Iterator[tuple[Trial, float]]:
    """Trials side by side on a Ray cluster, whose machines share the file system."""
    from bridge_jax.distributed.ray import cluster

    with cluster() as ray:
        remote = ray.remote(num_gpus=gpus, max_retries=2)(_execute)
        pending = {
            remote.remote(t.command, str(t.log.absolute()), os.getcwd()): (t, time.monotonic())
            for t in trials
        }
        while pending:
            done, _ = ray.wait(list(pending))
            trial, start = pending.pop(done[0])
            yield trial, time.monotonic() - start


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.sweep", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    read.add_argument(
        "--config", required=True, help="a study, e.g. configs/ablations/negatives.py"
    )
    write.add_argument(
        "--workdir", required=True, help="where the study lives, e.g. runs/negatives"
    )
    how.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="of each setting, from 0 on; default: 3"
    )
    how.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="local: one trial after the other; print: one shell command a trial, nothing is run; "
        "ray: side by side on a Ray cluster; default: local",
    )
    how.add_argument(
        "--trial-gpus",
        type=float,
        default=0.0,
        metavar="N",
        help="of each trial, with --launcher ray; default: 0",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
