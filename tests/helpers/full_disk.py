"""A run whose files may not grow for some steps, as on a full disk.

python -m tests.helpers.full_disk CONFIG WORKDIR FIRST_STEP LAST_STEP
"""

import resource
import sys

from bridge_jax import cli, train
from bridge_jax.training.hooks import TrainingHooks

ROOM = 400  # bytes a file: too little for a checkpoint, and soon for the log


def main(_: object = None) -> int:
    config, workdir, first, last = sys.argv[1:]
    on_step_end, free = TrainingHooks.on_step_end, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self: TrainingHooks, step: int, *rest: object) -> None:
        if step == int(first):
            self.checkpoints.wait()  # what was started before has room
        full = int(first) <= step <= int(last)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM if full else free[0], free[1]))
        on_step_end(self, step, *rest)

    TrainingHooks.on_step_end = limited
    return train.main(["--config", config, "--workdir", workdir, "--no-evaluate"])


if __name__ == "__main__":
    cli.run(main)
