"""Trains the same run on several numbers of devices and compares losses and parameters.

    python -m benchmarks.device_counts --config configs/demo.py --devices 1 2 4 8 --steps 40

The devices are virtual ones of the CPU. The batches, the dropout masks and the initial parameters
are the same; sums over a batch are taken in another order, so the last bits differ. The biases of
attention keys have a column of their own: the softmax ignores them, so their gradient is rounding
noise, which Adam scales up to whole steps.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from bridge_jax import cli
from bridge_jax.experiment.workdir import load_run
from bridge_jax.formatting import text_table

HEADER = ("devices", "loss, relative", "parameters", "biases of keys")
KEY_BIAS = "['key']['bias']"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    rows, first = [], None
    with tempfile.TemporaryDirectory() as scratch:
        for devices in args.devices:
            workdir = Path(scratch) / str(devices)
            _train(args.config, workdir, devices, args.steps, overrides)
            params, losses = _params(workdir, args.steps), _losses(workdir)
            first_params, first_losses = first = (params, losses) if first is None else first
            largest = {k: float(np.abs(params[k] - first_params[k]).max()) for k in params}
            values = [
                np.abs(losses / first_losses - 1).max(),
                max(v for k, v in largest.items() if KEY_BIAS not in k),
                max((v for k, v in largest.items() if KEY_BIAS in k), default=0.0),
            ]
            rows.append([devices, *(f"{v:.1e}" for v in values)])
    print(text_table(rows, HEADER))
    return 0


def _train(config: str, workdir: Path, devices: int, steps: int, overrides: list[str]) -> None:
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate", "--config", config]
    fields = {"devices": devices, "train.steps": steps, "train.log_every": 1}
    command += ["--workdir", str(workdir), *overrides]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    flags = f"--xla_force_host_platform_device_count={devices}"
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)


def _params(workdir: Path, step: int) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(load_run(workdir, step=step).params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _losses(workdir: Path) -> np.ndarray:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return np.array([line["loss"] for line in lines if "loss" in line])


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.device_counts", __doc__)
    parser.add_argument("--config", required=True, help="config file")
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers; default: 1 2 4 8"
    )
    parser.add_argument("--steps", type=int, default=40, help="number of steps; default: 40")
    return parser


if __name__ == "__main__":
    cli.run(main)
