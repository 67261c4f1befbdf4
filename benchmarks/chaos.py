"""Kill a training run at random moments, start it again, and count what was lost.

    python -m benchmarks.chaos --config configs/demo.py --kills 50 --folder chaos \
        -- --config.train.steps=60 --config.train.validate_every=20 --config.train.save_every=5

One run is left alone, another gets SIGKILL after a random time, again and again, until it has had
its kills and may finish. Prints whether both end in the same bits, and what lies around.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from bridge_jax import cli, run
from bridge_jax.checkpoint import Checkpoints


def main() -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args()
    overrides = [o for o in overrides if o != "--"]
    folder, choice = Path(args.folder), random.Random(args.seed)
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    _start(args.config, whole, overrides).communicate()
    length = time.monotonic() - began
    rows = []
    while len(rows) < args.kills:
        process = _start(args.config, killed, overrides)
        pause = choice.uniform(0, length)
        try:
            process.communicate(timeout=pause)
            break  # it finished: there is nothing left to kill
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        rows.append([len(rows) + 1, pause, _steps(killed)])
    process = _start(args.config, killed, overrides)
    _, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(stderr)
    ends = [run.open_run(w, step=_last(w)) for w in (whole, killed)]
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), *(e.params for e in ends))
    left = [
        str(p) for p in killed.rglob("*") if ".tmp" in p.name or "orbax-checkpoint-tmp" in p.name
    ]
    print(cli.table(rows, ("kill", "seconds", "step saved")))
    summary = {
        "kills": len(rows),
        "seconds_unbroken": round(length, 1),
        "arrays": len(jax.tree.leaves(same)),
        "arrays_that_differ": sum(not s for s in jax.tree.leaves(same)),
        "files_left_over": left,
    }
    print(json.dumps(summary, indent=1))
    (folder / "chaos.json").write_text(json.dumps(summary | {"rows": rows}))
    return 0 if not summary["arrays_that_differ"] and not left else 1


def _start(config: str, workdir: Path, overrides: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate", "--config", config]
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *overrides],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ,
    )  # fmt: skip


def _last(workdir: Path) -> int:
    step = Checkpoints(workdir, read_only=True).latest()
    assert step is not None
    return step


def _steps(workdir: Path) -> int:
    if not (workdir / "checkpoints").is_dir():
        return 0
    return Checkpoints(workdir, read_only=True).latest() or 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.chaos", __doc__)
    parser.add_argument("--config", required=True, help="a config file")
    parser.add_argument("--folder", required=True, help="where the two runs live")
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
