"""A trained bridge beside its rivals: the same queries asked of each, one after the other."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation import report
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.baselines.kge import MODEL, Embeddings
from bridge_jax.evaluation.evaluators import make_evaluators
from bridge_jax.evaluation.evaluators.retrieval import rank_all
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.rerankers import (
    BidirectionalScorer,
    KNNInterpolation,
    bridged,
    check_spaces,
)
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, load_run, provenance
from bridge_jax.formatting import text_table

SUBJECT = "bridge"
_VOTERS = {"source": "head_knn", "tails": "tail_knn"}  # baselines that a memory may hold
NAMES = {
    *BASELINES,
    SUBJECT,
    BidirectionalScorer.name,
    KNNInterpolation.name,
}  # of rows that are no rivals


def evaluate(
    run: TrainedRun, split: str, baselines: Sequence[str], rivals: Mapping[str, str] | None = None
) -> report.Report:
    """Rank a split with the bridge and some others, and report all of them side by side.

    Args:
      run: a trained run.
      split: `validation` or `test`.
      baselines: names of `bridge_jax.evaluation.baselines`.
      rivals: further rows, each a name in the table and what `rivals.open_rival` opens.

    Raises:
      InputError: an unknown baseline, a rival that cannot be compared, or a split without a query.
    """
    rivals = rivals or {}
    results = {
        name: rank_all(scorer, run.experiment, split)
        for name, scorer in models(run, split, baselines, rivals)
    }
    train = run.experiment.graph.pairs(["train"])
    return report.build(results, train=train, about=about(run, split, rivals))


def models(
    run: TrainedRun, split: str, baselines: Sequence[str], rivals: Mapping[str, str]
) -> Iterator[tuple[str, Scorer]]:
    """Baselines, rivals, the bridge and its memory, one after the other, as `evaluate` names them.

    Says how long each took, from its making until the next is asked for.

    Raises:
      InputError: as `evaluate`.
    """
    experiment, asked = run.experiment, run.experiment.config.evaluate
    check_rows(asked, baselines)
    for path in rivals.values():
        check_external_model(path, experiment)
    if not any(len(q.heads) for q in experiment.queries[split].values()):
        raise InputError(f"{experiment.manifest.name} has no {split} query; split the dataset anew")
    stored = {name: t.stored.astype(np.float32) for name, t in experiment.tables.items()}
    train = experiment.graph.pairs(["train"])
    spaces = asked.knn_spaces
    further = [
        m.name
        for m, on in ((BidirectionalScorer, asked.bidirectional), (KNNInterpolation, asked.memory))
        if on
    ]
    voters: dict[str, Any] = {}
    best: Scorer = run.scorer
    for name in (*baselines, *rivals, SUBJECT, *further):
        start = time.monotonic()
        scorer: Scorer
        if name in rivals:
            scorer = load_external_model(rivals[name], experiment)
        elif name == SUBJECT:
            scorer = run.scorer
        elif name == BidirectionalScorer.name:
            scorer = best = BidirectionalScorer(experiment.graph, run.scorer)
        elif name == KNNInterpolation.name:
            for space in set(spaces) - voters.keys():
                voters[space] = (
                    bridged(experiment.graph, train, run.scorer)
                    if space == "bridged"
                    else BASELINES[_VOTERS[space]](experiment.graph, stored, train)
                )
            scorer = KNNInterpolation(experiment.graph, [voters[space] for space in spaces], best)
        else:
            scorer = BASELINES[name](experiment.graph, stored, train)
            voters |= {space: scorer for space, voter in _VOTERS.items() if voter == name}
        yield name, scorer
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def check_rows(asked: ConfigDict, baselines: Sequence[str] | None = None) -> None:
    """Look up every name that a table will need, before hours go into it.

    Args:
      asked: the config's `evaluate` part.
      baselines: in place of its own.

    Raises:
      InputError: an unknown baseline or memory space.
    """
    for name in asked.baselines if baselines is None else baselines:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES, "this version")
    check_spaces(asked.knn_spaces)


def about(run: TrainedRun, split: str, rivals: Mapping[str, str]) -> dict[str, Any]:
    """How figures came about."""
    experiment = run.experiment
    return {
        "dataset": experiment.manifest.name,
        "manifest_sha256": experiment.manifest.hash(),
        "split": split,
        "split_rule": experiment.manifest.split["rule"],
        "checkpoint": run.step,
        "seed": experiment.config.seed,
        **({"compare_with": dict(rivals)} if rivals else {}),
        **provenance(),
    }


def run_evaluators(
    run: TrainedRun, names: Sequence[str], split: str
) -> dict[str, dict[str, float]]:
    """Ask some evaluators and print a table of each: what is measured by which vectors."""
    out = {}
    for evaluator, run_evaluators in make_evaluators(run.experiment, names, split).items():
        out[evaluator] = found = dict(run_evaluators(run.scorer))
        cells: dict[str, dict[str, float]] = {}
        for name, value in found.items():
            what, _, vectors = name.partition(": ")
            cells.setdefault(what, {})[vectors or "value"] = value
        columns = list(dict.fromkeys(c for row in cells.values() for c in row))
        rows = [[what, *(_figure(row.get(c)) for c in columns)] for what, row in cells.items()]
        print(f"{text_table(rows, [evaluator, *columns])}\n")
    return out


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def load_external_model(path: str | Path, experiment: Experiment) -> Scorer:
    """Open what `evaluate --compare-with` names.

    Args:
      path: the workdir of a run (its bridge alone, without a memory), or a folder written by
        `tools.train_pykeen`.
      setup: of the run under test; the rival must have been trained on the same dataset.

    Raises:
      InputError: neither of them, damaged, or of another dataset.
    """
    folder = Path(path)
    if (folder / MODEL).is_file():
        return Embeddings.load(folder, experiment.graph, experiment.manifest.hash())
    return load_run(folder, experiment.config.dataset).scorer


def check_external_model(path: str | Path, experiment: Experiment) -> None:
    """See that a rival knows the dataset, before anything is ranked.

    One that cannot be read passes: `open_rival` says what is wrong with it.

    Raises:
      InputError: it was trained on another one.
    """
    file = Path(path) / (MODEL if (Path(path) / MODEL).is_file() else "run.json")
    try:
        theirs, ours = json.loads(file.read_bytes())["manifest_sha256"], experiment.manifest.hash()
    except (OSError, ValueError, KeyError, TypeError):
        return
    if theirs != ours:
        raise InputError(
            f"--compare-with {path}: trained on another dataset (manifest {str(theirs)[:12]}; "
            f"{experiment.manifest.name} has {ours[:12]}), so it cannot answer the same queries"
        )


def name_external_models(paths: list[str], taken: set[str]) -> dict[str, str]:
    """A name in the table for each path: the folder's, or the whole path where that is taken.

    Raises:
      InputError: a path is given twice, or holds nothing that `open_rival` opens.
    """
    names: dict[str, str] = {}
    for path in paths:
        if not any((Path(path) / file).is_file() for file in (MODEL, "config.json")):
            raise InputError(
                f"{path}: neither a run (config.json) nor trained embeddings ({MODEL}); train one "
                "with bridge_jax.train or tools.train_pykeen"
            )
        name = Path(path).name or path
        name = path if name in names or name in taken else name
        if name in names:
            raise InputError(f"--compare-with names {path} twice")
        names[name] = path
    return names
