"""Evaluate a trained bridge beside its rivals.

    python -m bridge_jax.evaluate --workdir runs/demo

Every held-out fact is asked of every model: rank the true tail among all nodes of its type, with
the other known answers filtered out. Prints a table and writes
eval/<split>/{results.json,results.csv,results.md,results.png} in the workdir.

--against puts other runs, or embeddings of `tools.train_pykeen`, into the same table, with paired
tests over the same queries.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

from bridge_jax import cli, report
from bridge_jax.baselines import BASELINES
from bridge_jax.baselines.nearest import Nearest
from bridge_jax.errors import InputError, unknown
from bridge_jax.graph import Pairs, TripleType
from bridge_jax.memory import Memory
from bridge_jax.model import Params
from bridge_jax.ranking import Ranks, Scorer, rank
from bridge_jax.rivals import name_rivals, open_rival
from bridge_jax.run import Run, Setup, open_run, provenance

SUBJECT = "bridge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    run = open_run(args.workdir, args.dataset, args.step)
    names = run.setup.config.evaluate.baselines if args.baselines is None else args.baselines
    rivals = name_rivals(args.against, {*BASELINES, SUBJECT, Memory.name})
    made = evaluate(run, args.split, names, rivals)
    folder = run.workdir / "eval" / args.split
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
    for name in baselines:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES, "this version")
    setup, rivals = run.setup, rivals or {}
    if not any(len(q.heads) for q in setup.queries[split].values()):
        raise InputError(f"{setup.manifest.name} has no {split} query; split the dataset anew")
    stored = {name: t.stored.astype(np.float32) for name, t in setup.tables.items()}
    train = setup.graph.pairs(["train"])
    results = {}
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
        results[name] = rank_all(scorer, setup, split)
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
    about = {
        "dataset": setup.manifest.name,
        "manifest_sha256": setup.manifest.hash(),
        "split": split,
        "split_rule": setup.manifest.split["rule"],
        "checkpoint": run.step,
        "seed": setup.config.seed,
        **({"against": dict(rivals)} if rivals else {}),
        **provenance(),
    }
    return report.build(results, train=train, about=about)


def rank_all(
    scorer: Scorer, setup: Setup, split: str, limit: int | None = None
) -> dict[TripleType, Ranks]:
    """Rank the queries of a split, triple type by triple type.

    Args:
      scorer: the model.
      setup: of the run.
      split: `validation` or `test`.
      limit: at most about so many queries a triple type: evenly spaced heads.
    """
    out = {}
    known = setup.known if split == "test" else setup.known_before_test
    for kind, queries in setup.queries[split].items():
        chosen = thin(queries, limit) if limit else queries
        if len(chosen.heads):
            block = setup.config.evaluate.block
            out[kind] = rank(scorer, kind, chosen, known[kind], block=block)
    return out


def thin(queries: Pairs, limit: int) -> Pairs:
    """Keep every n-th head with all its tails, so that about `limit` queries are left."""
    every = -(-len(queries.heads) // limit)
    _, number = np.unique(queries.heads, return_inverse=True)
    keep = number % max(every, 1) == 0
    return Pairs(queries.heads[keep], queries.tails[keep])


def validate(setup: Setup, params: Params) -> dict[str, float]:
    """Macro-averaged filtered metrics on a sample of the validation queries."""
    ranks = rank_all(
        setup.scorer(params), setup, "validation", setup.config.evaluate.validation_queries
    )
    realistic = [r.realistic for r in ranks.values()]
    return {
        "mrr": float(np.mean([(1 / r).mean() for r in realistic])),
        "hits@10": float(np.mean([(r <= 10).mean() for r in realistic])),
    }


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
        "--against",
        nargs="+",
        default=[],
        metavar="PATH",
        help="other runs on the same dataset, or folders of tools.train_pykeen",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
