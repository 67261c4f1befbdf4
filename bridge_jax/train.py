"""Train a bridge.

    python -m bridge_jax.train --config configs/demo.py --workdir runs/demo

Any field of the config can be set with --config.<field>=<value>. The same command resumes a run
that was interrupted, and evaluates a run that is complete.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.output_lock import output_lock
from bridge_jax.training.peer_monitor import monitor_peers, peer_failure_message

if TYPE_CHECKING:
    from bridge_jax.data.graph import TripleType
    from bridge_jax.experiment.workdir import TrainedRun


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args, overrides = _parser().parse_known_args(argv)
    config = configs.load(args.config, overrides)
    import jax

    from bridge_jax.distributed.mesh import join_processes, process_index
    from bridge_jax.evaluation import comparison, report
    from bridge_jax.evaluation.fusion_fit import settings_of_run
    from bridge_jax.experiment.checkpoint import Checkpoints, CheckpointWriteError
    from bridge_jax.experiment.workdir import load_run
    from bridge_jax.training.trainer import PeerProcessError, train

    workdir = Path(args.workdir)
    flags = (args.coordinator, args.num_processes, args.process_id)
    index = process_index(*flags)
    # Each process has a lock of its own; that of the first one is on the run's folder.
    try:
        with ExitStack() as stack:
            stack.enter_context(output_lock(workdir / f".process-{index}" if index else workdir))
            join_processes(*flags)
            if jax.process_count() > 1:
                stack.enter_context(monitor_peers(workdir))
            finished = train(config, workdir)
    except PeerProcessError:
        _exit_at_once(peer_failure_message(workdir))
    except CheckpointWriteError as e:
        _exit_at_once(str(e))
    except KeyboardInterrupt as e:
        if Checkpoints.failed or jax.process_count() == 1:
            _exit_at_once(str(e) or "interrupted", 130)
        raise  # the other processes wait for this one in a barrier when they end
    if finished and jax.process_index() == 0 and (config.evaluate.knn or not args.no_evaluate):
        run = load_run(workdir)
        if config.evaluate.knn:
            settings_of_run(run, save=True)
        if not args.no_evaluate:
            folder = workdir / "eval/test"
            with output_lock(folder):
                results = comparison.evaluate(run, "test", config.evaluate.baselines)
                print(report.publish(results, folder))
                print(f"made with the checkpoint of {run.step_of_total}")
            print(_how_to_ask(run))
    if Checkpoints.failed:
        sys.stdout.flush()
        os._exit(0)
    return 0


def _how_to_ask(run: "TrainedRun") -> str:
    """Returns the commands that ask a trained run, with a node of its test split as an example."""
    import numpy as np

    from bridge_jax.retrieval.node_names import read_node_index

    queries = {t: q for t, q in run.experiment.queries["test"].items() if len(q.heads)}
    heads = [t.head for t in queries]

    def rank(triple_type: "TripleType") -> tuple[bool, int, int]:
        of_type = heads.count(triple_type.head)
        return triple_type.head != triple_type.tail, of_type, len(queries[triple_type].heads)

    triple_type = max(queries, key=rank)
    index = read_node_index(
        run.experiment.config.dataset,
        run.experiment.manifest,
        triple_type.head,
        run.experiment.tables[triple_type.head].ids,
    )
    row = int(np.argmax(np.bincount(queries[triple_type].heads)))
    named = index.names.count(index.names[row]) == 1
    ends = [t for t in queries if (t.head, t.tail) == (triple_type.head, triple_type.tail)]
    arguments = ["--workdir", str(run.workdir)]
    asked = ["--source", triple_type.head, "--target", triple_type.tail]
    asked += ["--relation", triple_type.relation] if len(ends) > 1 else []
    asked += ["--name", index.names[row]] if named else ["--id", index.ids[row]]
    return (
        f"ask it:  python -m bridge_jax.retrieve {shlex.join([*arguments, *asked])}\n"
        f"browse:  python -m bridge_jax.serve {shlex.join(arguments)}"
    )


def _exit_at_once(message: str, code: int = 2) -> NoReturn:
    """Exits without clean-up, which would wait for a dead process or for a stuck save."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(code)


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
