"""How long a newcomer waits for the first table: clone, install, train, each timed.

    python benchmarks/newcomer.py [--repository URL]

Follows the README's first command in a temporary folder, with a fresh virtual environment and pip.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", default=str(ROOT), help="default: this checkout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone, environment = Path(scratch, "bridge_jax"), Path(scratch, "venv")
        seconds = {}
        seconds["clone"] = timed(["git", "clone", "--quiet", args.repository, str(clone)])
        start = time.monotonic()
        venv.create(environment, with_pip=True)
        seconds["virtual environment"] = time.monotonic() - start
        python = str(environment / "bin/python")
        install = ["-m", "pip", "install", "--quiet", "-r", "requirements.txt", "-e", "."]
        seconds["install"] = timed([python, *install], clone)
        train = ["-m", "bridge_jax.train", "--config", "configs/demo.py", "--workdir", "runs/demo"]
        seconds["train and evaluate"] = timed([python, *train], clone)
        used = subprocess.run(
            ["du", "-sm", environment], capture_output=True, text=True, check=True
        )
    seconds["all"] = sum(seconds.values())
    for name, value in seconds.items():
        print(f"{name:<20} {value:6.1f} s")
    about = {
        "environment_mb": int(used.stdout.split()[0]),
        "python": sys.version.split()[0],
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps({"seconds": seconds, **about}))
    return 0


def timed(command: list[str], folder: Path | None = None) -> float:
    """Seconds that a command took; its output is shown."""
    start = time.monotonic()
    subprocess.run(command, cwd=folder, check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
