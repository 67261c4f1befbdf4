"""Train a bridge.

    python -m bridge_jax.train --config configs/demo.py --workdir runs/demo

Any field of the config can be set with --config.<field>=<value>. The same command resumes a run
that was interrupted, and evaluates a run that is complete.
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
from bridge_jax.training.peer_monitor import monitor_peers, peer_failure_message


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    config = configs.load(args.config, overrides)
    import jax

    from bridge_jax.distributed.mesh import join_processes
    from bridge_jax.evaluation import comparison, report
    from bridge_jax.experiment.checkpoint import Checkpoints, CheckpointWriteError
    from bridge_jax.experiment.workdir import load_run
    from bridge_jax.training.trainer import PeerProcessError, train

    workdir = Path(args.workdir)
    join_processes(args.coordinator, args.num_processes, args.process_id)
    try:
        with monitor_peers(workdir) if jax.process_count() > 1 else nullcontext():
            finished = train(config, workdir)
    except PeerProcessError:
        _exit_at_once(peer_failure_message(workdir))
    except CheckpointWriteError as e:
        _exit_at_once(str(e))
    if finished and not args.no_evaluate and jax.process_index() == 0:
        results = comparison.evaluate(load_run(workdir), "test", config.evaluate.baselines)
        print(report.publish(results, workdir / "eval/test"))
    if Checkpoints.failed:
        sys.stdout.flush()
        os._exit(0)
    return 0


def _exit_at_once(message: str) -> NoReturn:
    """Exits without clean-up, which would wait for a dead process or for a stuck save."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.train", __doc__)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("--config", required=True, help="config file, e.g. configs/demo.py")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("--workdir", required=True, help="folder of the run, e.g. runs/demo")
    outputs.add_argument(
        "--no-evaluate", action="store_true", help="skip the evaluation on the test split"
    )
    group = parser.add_argument_group("several processes (found by itself on SLURM and TPU pods)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    group.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
