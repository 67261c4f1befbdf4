"""A run whose files may not grow for some steps, as on a full disk.

python -m tests.full_disk CONFIG WORKDIR FIRST_STEP LAST_STEP
"""

import resource
import sys
from pathlib import Path

from bridge_jax import cli, train
from bridge_jax import config as configs
from bridge_jax.loop import Loop

ROOM = 2000  # bytes a file: enough for metadata, too little for a checkpoint or the log


def main(_: object = None) -> int:
    config, workdir, first, last = sys.argv[1:]
    after, free = Loop.after, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self: Loop, step: int, *rest: object) -> None:
        if step == int(first):
            self.checkpoints.wait()  # what was started before has room
        full = int(first) <= step <= int(last)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM if full else free[0], free[1]))
        after(self, step, *rest)

    Loop.after = limited
    return 0 if train.train(configs.load(config), Path(workdir)) else 1


if __name__ == "__main__":
    cli.run(main)
