"""Train a bridge.

    python -m bridge_jax.train --config configs/demo.py --workdir runs/demo

Any field of the config can be changed with --config.<field>=<value>. The same command resumes a run
that was cut, and evaluates one that is complete. The steps themselves are in `training/trainer.py`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.training.preemption import monitor_peers, peer_failure_message


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    config = configs.load(args.config, overrides)
    import jax

    from bridge_jax.distributed.mesh import join_processes
    from bridge_jax.experiment.checkpoint import Checkpoints, CheckpointWriteError
    from bridge_jax.training.trainer import PeerProcessError, train

    join_processes(args.coordinator, args.num_processes, args.process_id)
    try:
        with monitor_peers(Path(args.workdir)) if jax.process_count() > 1 else nullcontext():
            finished = train(config, Path(args.workdir))
    except PeerProcessError:
        _leave(peer_failure_message(args.workdir))
    except CheckpointWriteError as e:
        _leave(str(e))
    if finished and not args.no_evaluate and jax.process_index() == 0:
        from bridge_jax.evaluation import comparison, report
        from bridge_jax.experiment.workdir import load_run

        run = load_run(args.workdir)
        made = comparison.evaluate(run, "test", config.evaluate.baselines)
        print(report.publish(made, run.workdir / "eval/test"))
    if Checkpoints.failed:
        sys.stdout.flush()
        os._exit(0)
    return 0


def _leave(message: str) -> NoReturn:
    """End at once: an orderly exit would wait for a process that is gone, or for a stuck save."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.train", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    read.add_argument("--config", required=True, help="a config file, e.g. configs/demo.py")
    write.add_argument("--workdir", required=True, help="where the run lives, e.g. runs/demo")
    write.add_argument(
        "--no-evaluate", action="store_true", help="leave out the test table at the end"
    )
    group = parser.add_argument_group(
        "several processes (found by themselves on SLURM and TPU pods)"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="from 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
