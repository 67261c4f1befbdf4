"""Another process that holds the lock of an output folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import sys
from bridge_jax.data.output_lock import output_lock
folder, *about = sys.argv[1:]
with output_lock(folder, *(x or None for x in about)):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path, job: str = "", part: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Starts a process that holds the lock while the context lasts."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), job, part],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.communicate("")
