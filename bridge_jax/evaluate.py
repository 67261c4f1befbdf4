"""Evaluates a trained bridge beside baselines and other models.

    python -m bridge_jax.evaluate --workdir runs/demo

Every held-out fact is a query: rank the true tail among all nodes of its type. The other known
tails of the head are filtered out. The command prints a table and writes
eval/<split>/results.{json,csv,md,png} in the workdir, and confidence.{json,png}: how often answers
of a confidence are facts.

--config.evaluate.<field>=<value> changes a field of the run's config for this evaluation only.

--compare-with adds other runs, or embeddings from tools.train_pykeen, to the table, with paired
tests on the same queries.

--evaluators runs downstream evaluators instead of the table (see bridge_jax/evaluation/evaluators)
and writes eval/<split>/evaluators.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_jax import cli
from bridge_jax.data.files import write_json
from bridge_jax.data.output_lock import output_lock
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.evaluators import EVALUATORS

if TYPE_CHECKING:
    from bridge_jax.experiment.workdir import TrainedRun

PROTOCOLS = ("filtered", "biobridge")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args, changes = _parser().parse_known_args(argv)
    from bridge_jax.evaluation import biobridge_protocol, comparison, report
    from bridge_jax.experiment.workdir import load_run

    run = load_run(args.workdir, args.dataset, args.step, changes)
    config = run.experiment.config.evaluate
    baselines = config.baselines if args.baselines is None else args.baselines
    external_models = comparison.name_external_models(args.compare_with, comparison.RESERVED_NAMES)
    folder = run.workdir / "eval" / args.split
    about = comparison.run_metadata(run, args.split, external_models)
    with output_lock(folder):
        if args.evaluators:
            values = {}
            for name, metrics in comparison.run_evaluators(run, args.evaluators, args.split):
                print(f"{comparison.evaluator_table(name, metrics)}\n")
                values[name] = metrics
            write_json(folder / "evaluators.json", {"about": about, **values})
            print(f"written to {folder}/evaluators.json")
        elif args.protocol == "biobridge":
            scorers = comparison.build_scorers(run, args.split, baselines, external_models)
            results = biobridge_protocol.evaluate_scorers(scorers, run.experiment, args.split)
            biobridge_protocol.write(results, about, folder)
            text = biobridge_protocol.as_text(results)
            print(f"{text}\n\nwritten to {folder}/biobridge.json")
        else:
            table = comparison.evaluate(run, args.split, baselines, external_models)
            print(report.publish(table, folder))
            if config.knn:
                print(_confidence(run, args.split, about, folder))
    print(f"made with the checkpoint of {run.step_of_total}")
    return 0


def _confidence(run: "TrainedRun", split: str, about: dict[str, Any], folder: Path) -> str:
    """Measures and writes the reliability of the confidences; returns a line about it."""
    from bridge_jax.evaluation import fusion_fit, reliability

    settings = fusion_fit.settings_of_run(run)
    fusion = fusion_fit.build_fusion(run.experiment, run.scorer, settings)
    points = reliability.measure_reliability(run.experiment, fusion, settings, split)
    return reliability.publish_reliability(points, about, folder)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.evaluate", __doc__)
    inputs = parser.add_argument_group("inputs")
    cli.add_run_arguments(inputs)
    inputs.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="split of the queries; default: test",
    )
    inputs.add_argument(
        "--compare-with",
        nargs="+",
        default=[],
        metavar="PATH",
        help="other runs on the same dataset, or folders of tools.train_pykeen; default: none",
    )
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help=f"baselines in the table, of {', '.join(BASELINES)}; default: those of the config",
    )
    evaluation.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="filtered",
        help="evaluation protocol; biobridge: recall and precision of each head's list, as in the "
        "BioBridge release (see bridge_jax/evaluation/biobridge_protocol.py); default: filtered",
    )
    evaluation.add_argument(
        "--evaluators",
        nargs="+",
        metavar="NAME",
        help=f"downstream evaluators instead of the table, of {', '.join(EVALUATORS)}; "
        "default: none",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
