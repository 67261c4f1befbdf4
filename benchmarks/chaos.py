"""Kill a training run at random moments, start it again, and count what was lost.

    python -m benchmarks.chaos --config configs/demo.py --kills 50 --folder chaos \
        -- --config.train.steps=1000 --config.train.validate_every=100 \
        --config.train.save_every=5 --config.train.log_every=1

One run is left alone, another gets SIGKILL after a random time (while it starts, compiles, steps,
validates or saves), again and again, until it has had its kills and may finish. Prints what each
kill cost, whether both runs end in the same bits and the same log, and what lies around.
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

from bridge_jax import cli
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.experiment.checkpoint import Checkpoints


def main() -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args()
    overrides = [o for o in overrides if o != "--"]
    folder, choice = Path(args.folder), random.Random(args.seed)
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    _finish(_start(args.config, whole, overrides))
    length = time.monotonic() - began
    rows: list[list[object]] = []
    while len(rows) < args.kills:
        process, pause = _start(args.config, killed, overrides), choice.uniform(0, args.within)
        try:
            process.communicate(timeout=pause)
            raise SystemExit(f"finished after {len(rows)} kills; ask for more train.steps")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        saved = _latest(killed)
        rows.append([len(rows) + 1, pause, saved, max(0, _logged(killed)[-1] - saved)])
        print(*rows[-1], file=sys.stderr, flush=True)
    _finish(_start(args.config, killed, overrides))
    ends = [workdirs.load_run(w, step=_latest(w)) for w in (whole, killed)]
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), *(e.params for e in ends))
    left = [str(p) for p in killed.rglob("*") if "tmp" in p.name]
    print(cli.table(rows, ("kill", "after seconds", "step saved", "steps to repeat")))
    summary = {
        "kills": len(rows),
        "seconds_unbroken": round(length, 1),
        "arrays": len(jax.tree.leaves(same)),
        "arrays_that_differ": sum(not s for s in jax.tree.leaves(same)),
        "logs_agree": _logged(whole) == _logged(killed),
        "files_left_over": left,
    }
    print(json.dumps(summary, indent=1))
    (folder / "chaos.json").write_text(json.dumps(summary | {"rows": rows}))
    return 0 if not summary["arrays_that_differ"] and summary["logs_agree"] and not left else 1


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


def _latest(workdir: Path) -> int:
    if not (workdir / "checkpoints").is_dir():
        return 0
    return Checkpoints(workdir, read_only=True).latest() or 0


def _logged(workdir: Path) -> list[int]:
    """The steps of the run's log, in order."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [0, *(json.loads(line)["step"] for line in lines)]


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.chaos", __doc__)
    parser.add_argument("--config", required=True, help="a config file")
    parser.add_argument("--folder", required=True, help="where the two runs live")
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--within", type=float, default=16, help="seconds; default: 16")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
