"""Measures how long a new user waits for the first table: clone, install and train.

    python -m benchmarks.newcomer [--repository URL]

Follows the README's first command in a temporary folder, with a new virtual environment and pip.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        clone, environment = Path(scratch, "bridge_jax"), Path(scratch, "venv")
        seconds = {}
        seconds["clone"] = run_timed(["git", "clone", "--quiet", args.repository, str(clone)])
        start = time.monotonic()
        venv.create(environment, with_pip=True)
        seconds["virtual environment"] = time.monotonic() - start
        python = str(environment / "bin/python")
        install = ["-m", "pip", "install", "--quiet", "-r", "requirements.txt", "-e", "."]
        seconds["install"] = run_timed([python, *install], clone)
        train = ["-m", "bridge_jax.train", "--config", "configs/demo.py", "--workdir", "runs/demo"]
        seconds["train and evaluate"] = run_timed([python, *train], clone)
        disk_usage = subprocess.run(
            ["du", "-sm", environment], capture_output=True, text=True, check=True
        )
    seconds["all"] = sum(seconds.values())
    for name, value in seconds.items():
        print(f"{name:<20} {value:6.1f} s")
    result = {
        "seconds": seconds,
        "environment_mb": int(disk_usage.stdout.split()[0]),
        "python": sys.version.split()[0],
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result))
    return 0


def run_timed(command: list[str], folder: Path | None = None) -> float:
    """Runs a command, whose output is shown, and returns the seconds it took.

    Args:
      command: Program and arguments.
      folder: Working directory; default: the current one.
    """
    start = time.monotonic()
    subprocess.run(command, cwd=folder, check=True)
    return time.monotonic() - start


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.newcomer", __doc__)
    parser.add_argument(
        "--repository", default=str(ROOT), help="repository to clone; default: this checkout"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
