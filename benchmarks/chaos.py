"""Kills a training run at random moments, resumes it, and counts the steps that were lost.

    python -m benchmarks.chaos --config configs/demo.py --kills 50 --folder chaos \\
        -- --config.train.steps=1000 --config.train.validate_every=100 \\
        --config.train.save_every=5 --config.train.log_every=1

One run is not interrupted. Another gets SIGKILL after a random time, while it starts, compiles,
trains, validates or saves, and is resumed, until it has had all its kills and may finish. Prints
the cost of each kill, whether both runs end with the same parameters and the same log, and which
temporary files were left behind.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import CheckpointReader
from bridge_jax.experiment.workdir import load_run
from bridge_jax.formatting import text_table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    overrides = [o for o in overrides if o != "--"]
    folder, rng = Path(args.folder), random.Random(args.seed)
    uninterrupted, killed = folder / "whole", folder / "killed"
    start = time.monotonic()
    _finish(_start(args.config, uninterrupted, overrides))
    seconds_uninterrupted = time.monotonic() - start
    rows: list[list[object]] = []
    while len(rows) < args.kills:
        process, delay = _start(args.config, killed, overrides), rng.uniform(0, args.within)
        try:
            process.communicate(timeout=delay)
            raise InputError(
                f"the run finished after {len(rows)} kills; raise --config.train.steps"
            )
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        saved = _latest_step(killed)
        rows.append([len(rows) + 1, delay, saved, max(0, _logged_steps(killed)[-1] - saved)])
        print(*rows[-1], file=sys.stderr, flush=True)
    _finish(_start(args.config, killed, overrides))
    runs = [load_run(w, step=_latest_step(w)) for w in (uninterrupted, killed)]
    equal = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), *(run.params for run in runs))
    left_over = [str(p) for p in killed.rglob("*") if "tmp" in p.name]
    print(text_table(rows, ("kill", "after seconds", "step saved", "steps to repeat")))
    summary = {
        "kills": len(rows),
        "seconds_unbroken": round(seconds_uninterrupted, 1),
        "arrays": len(jax.tree.leaves(equal)),
        "arrays_that_differ": sum(not e for e in jax.tree.leaves(equal)),
        "logs_agree": _logged_steps(uninterrupted) == _logged_steps(killed),
        "files_left_over": left_over,
    }
    print(json.dumps(summary, indent=1))
    (folder / "chaos.json").write_text(json.dumps(summary | {"rows": rows}))
    passed = not summary["arrays_that_differ"] and summary["logs_agree"] and not left_over
    return 0 if passed else 1


def _start(config: str, workdir: Path, overrides: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate", "--config", config]
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *overrides],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ,
    )  # fmt: skip


def _finish(process: subprocess.Popen[str]) -> None:
    _, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(stderr)


def _latest_step(workdir: Path) -> int:
    if not (workdir / "checkpoints").is_dir():
        return 0
    return CheckpointReader(workdir).latest() or 0


def _logged_steps(workdir: Path) -> list[int]:
    """Returns 0 and the steps of the run's log, in order."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [0, *(json.loads(line)["step"] for line in lines)]


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.chaos", __doc__)
    parser.add_argument("--config", required=True, help="config file")
    parser.add_argument("--folder", required=True, help="folder of the two runs")
    parser.add_argument("--kills", type=int, default=50, help="number of kills; default: 50")
    parser.add_argument(
        "--within", type=float, default=16, help="largest delay of a kill in seconds; default: 16"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the delays; default: 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
