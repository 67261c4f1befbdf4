"""Evaluate a trained bridge beside its rivals.

    python -m bridge_jax.evaluate --workdir runs/demo

Every held-out fact is asked of every model: rank the true tail among all nodes of its type, with
the other known answers filtered out. Prints a table and writes
eval/<split>/{results.json,results.csv,results.md,results.png} in the workdir.

--evaluators asks other questions in place of it: see `bridge_jax/evaluators`. Their answers go to
eval/<split>/evaluators.json.

--against puts other runs, or embeddings of `tools.train_pykeen`, into the same table, with paired
tests over the same queries.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bridge_jax import biobridge, cli, report
from bridge_jax.baselines import BASELINES
from bridge_jax.baselines.nearest import Nearest
from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluators import EVALUATORS, evaluators
from bridge_jax.evaluators.retrieval import rank_all
from bridge_jax.memory import Memory
from bridge_jax.ranking import Scorer
from bridge_jax.records import write_json
from bridge_jax.rivals import name_rivals, open_rival
from bridge_jax.run import Run, open_run, provenance

SUBJECT = "bridge"
PROTOCOLS = ("filtered", "biobridge")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    run = open_run(args.workdir, args.dataset, args.step)
    names = run.setup.config.evaluate.baselines if args.baselines is None else args.baselines
    rivals = name_rivals(args.against, {*BASELINES, SUBJECT, Memory.name})
    folder = run.workdir / "eval" / args.split
    about = _about(run, args.split, rivals)
    if args.evaluators:
        answers = _ask(run, args.evaluators, args.split)
        write_json(folder / "evaluators.json", {"about": about, **answers})
        print(f"written to {folder}/evaluators.json")
        return 0
    if args.protocol == "biobridge":
        every = models(run, args.split, names, rivals)
        lists = biobridge.compare(every, run.setup, args.split)
        biobridge.write(lists, about, folder)
        print(f"{biobridge.as_text(lists)}\n\nwritten to {folder}/biobridge.json")
        return 0
    made = evaluate(run, args.split, names, rivals)
    report.write(made, folder)
    print(report.as_text(made))
    print(f"\nwritten to {folder}/results.{{json,csv,md,png}}")
    return 0


def evaluate(
    run: Run, split: str, baselines: Sequence[str], rivals: Mapping[str, str] | None = None
) -> report.Report:
    """Rank a split with the bridge and some others, and report all of them side by side.

    Args:
      run: a trained run.
      split: `validation` or `test`.
      baselines: names of `bridge_jax.baselines`.
      rivals: further rows, each a name in the table and what `rivals.open_rival` opens.

    Raises:
      InputError: an unknown baseline, a rival that cannot be compared, or a split without a query.
    """
    rivals = rivals or {}
    results = {
        name: rank_all(scorer, run.setup, split)
        for name, scorer in models(run, split, baselines, rivals)
    }
    train = run.setup.graph.pairs(["train"])
    return report.build(results, train=train, about=_about(run, split, rivals))


def models(
    run: Run, split: str, baselines: Sequence[str], rivals: Mapping[str, str]
) -> Iterator[tuple[str, Scorer]]:
    """Baselines, rivals, the bridge and its memory, one after the other, as `evaluate` names them.

    Says how long each took, from its making until the next is asked for.

    Raises:
      InputError: as `evaluate`.
    """
    for name in baselines:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES, "this version")
    setup = run.setup
    if not any(len(q.heads) for q in setup.queries[split].values()):
        raise InputError(f"{setup.manifest.name} has no {split} query; split the dataset anew")
    stored = {name: t.stored.astype(np.float32) for name, t in setup.tables.items()}
    train = setup.graph.pairs(["train"])
    nearest: Nearest | None = None
    memory = (Memory.name,) if setup.config.evaluate.memory else ()
    for name in (*baselines, *rivals, SUBJECT, *memory):
        start = time.monotonic()
        scorer: Scorer
        if name in rivals:
            scorer = open_rival(rivals[name], setup)
        elif name == SUBJECT:
            scorer = run.scorer
        elif name == Memory.name:
            scorer = Memory(setup.graph, nearest or Nearest(setup.graph, stored, train), run.scorer)
        else:
            scorer = BASELINES[name](setup.graph, stored, train)
        nearest = scorer if isinstance(scorer, Nearest) else nearest
        yield name, scorer
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def _about(run: Run, split: str, rivals: Mapping[str, str]) -> dict[str, Any]:
    """How figures came about."""
    setup = run.setup
    return {
        "dataset": setup.manifest.name,
        "manifest_sha256": setup.manifest.hash(),
        "split": split,
        "split_rule": setup.manifest.split["rule"],
        "checkpoint": run.step,
        "seed": setup.config.seed,
        **({"against": dict(rivals)} if rivals else {}),
        **provenance(),
    }


def _ask(run: Run, names: Sequence[str], split: str) -> dict[str, dict[str, float]]:
    """Ask some evaluators and print a table of each: what is measured by which vectors."""
    out = {}
    for evaluator, ask in evaluators(run.setup, names, split).items():
        out[evaluator] = found = dict(ask(run.scorer))
        cells: dict[str, dict[str, float]] = {}
        for name, value in found.items():
            what, _, vectors = name.partition(": ")
            cells.setdefault(what, {})[vectors or "value"] = value
        columns = list(dict.fromkeys(c for row in cells.values() for c in row))
        rows = [[what, *(_figure(row.get(c)) for c in columns)] for what, row in cells.items()]
        print(f"{cli.table(rows, [evaluator, *columns])}\n")
    return out


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.evaluate", __doc__)
    parser.add_argument("--workdir", required=True, help="a trained run, e.g. runs/demo")
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="default: test"
    )
    parser.add_argument("--step", type=int, help="a checkpoint; default: the best by validation")
    parser.add_argument("--dataset", help="another place of the run's dataset")
    parser.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BASELINES)}; default: those of the config",
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="filtered",
        help="biobridge: recall and precision of lists as in the BioBridge release; see "
        "bridge_jax/biobridge.py; default: filtered",
    )
    parser.add_argument(
        "--evaluators",
        nargs="+",
        metavar="NAME",
        help=f"in place of the table, answer {', '.join(EVALUATORS)}",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="PATH",
        help="other runs on the same dataset, or folders of tools.train_pykeen",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
