"""Evaluate a trained bridge beside its rivals.

    python -m bridge_jax.evaluate --workdir runs/demo

Every held-out fact is asked of every model: rank the true tail among all nodes of its type, with
the other known answers filtered out. Prints a table and writes
eval/<split>/{results.json,results.csv,results.md,results.png} in the workdir.

--config.evaluate.<field>=<value> asks for other rows than the run's config does.

--evaluators asks other questions in place of it: see `bridge_jax/evaluation/evaluators`. Their answers go to
eval/<split>/evaluators.json.

--compare-with puts other runs, or embeddings of `tools.train_pykeen`, into the same table, with paired
tests over the same queries.
"""

import argparse
from collections.abc import Sequence

from bridge_jax import cli
from bridge_jax.data.files import write_json
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.evaluators import EVALUATORS

PROTOCOLS = ("filtered", "biobridge")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args, changes = _parser().parse_known_args(argv)
    from bridge_jax.evaluation import biobridge_protocol as biobridge
    from bridge_jax.evaluation import comparison, report
    from bridge_jax.evaluation.comparison import name_external_models
    from bridge_jax.experiment.workdir import load_run

    run = load_run(args.workdir, args.dataset, args.step, changes)
    names = run.experiment.config.evaluate.baselines if args.baselines is None else args.baselines
    rivals = name_external_models(args.compare_with, comparison.NAMES)
    folder = run.workdir / "eval" / args.split
    about = comparison.about(run, args.split, rivals)
    if args.evaluators:
        answers = comparison.run_evaluators(run, args.evaluators, args.split)
        write_json(folder / "evaluators.json", {"about": about, **answers})
        print(f"written to {folder}/evaluators.json")
        return 0
    if args.protocol == "biobridge":
        every = comparison.models(run, args.split, names, rivals)
        lists = biobridge.compare(every, run.experiment, args.split)
        biobridge.write(lists, about, folder)
        print(f"{biobridge.as_text(lists)}\n\nwritten to {folder}/biobridge.json")
        return 0
    print(report.publish(comparison.evaluate(run, args.split, names, rivals), folder))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.evaluate", __doc__)
    read = parser.add_argument_group("what is read")
    how = parser.add_argument_group("how")
    cli.add_run_arguments(read)
    read.add_argument(
        "--split", choices=("test", "validation"), default="test", help="its queries; default: test"
    )
    how.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BASELINES)}; default: those of the config",
    )
    how.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="filtered",
        help="biobridge: recall and precision of lists as in the BioBridge release; see "
        "bridge_jax/evaluation/biobridge_protocol.py; default: filtered",
    )
    how.add_argument(
        "--evaluators",
        nargs="+",
        metavar="NAME",
        help=f"in place of the table, of {', '.join(EVALUATORS)}; default: none",
    )
    read.add_argument(
        "--compare-with",
        nargs="+",
        default=[],
        metavar="PATH",
        help="other runs on the same dataset, or folders of tools.train_pykeen; default: none",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
