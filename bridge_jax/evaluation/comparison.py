"""Ranks the bridge, baselines and external models on the same queries."""

import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation import report
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.baselines.kge import MODEL_FILE, KGEScorer
from bridge_jax.evaluation.evaluators import make_evaluators
from bridge_jax.evaluation.evaluators.retrieval import rank_split
from bridge_jax.evaluation.fusion_fit import bidirectional_of_run, fusion_of_run
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, load_run, provenance
from bridge_jax.formatting import format_optional, text_table
from bridge_jax.models.bidirectional import BidirectionalScorer
from bridge_jax.models.fusion import Fusion, check_spaces
from bridge_jax.models.scorer import BridgeScorer

# Names that an external model must not have in a table.
RESERVED_NAMES = {*BASELINES, BridgeScorer.name, BidirectionalScorer.name, Fusion.name}


def evaluate(
    run: TrainedRun,
    split: str,
    baselines: Sequence[str],
    external_models: Mapping[str, str] | None = None,
) -> report.Report:
    """Ranks the queries of a split with the bridge and other models, and builds a report.

    Args:
      run: The trained run.
      split: `validation` or `test`.
      baselines: Names in `bridge_jax.evaluation.baselines.BASELINES`.
      external_models: Paths as `load_external_model` takes them, by the name of their row; default:
        none.

    Raises:
      InputError: A baseline is unknown, an external model cannot be compared, or the split has no
        query.
    """
    external_models = external_models or {}
    ranks = {
        name: rank_split(scorer, run.experiment, split)
        for name, scorer in build_scorers(run, split, baselines, external_models)
    }
    train = run.experiment.graph.pairs(["train"])
    return report.build(ranks, train=train, about=run_metadata(run, split, external_models))


def build_scorers(
    run: TrainedRun, split: str, baselines: Sequence[str], external_models: Mapping[str, str]
) -> Iterator[tuple[str, Scorer]]:
    """Builds the models of a table one after the other and yields each with its name.

    The order is: baselines, external models, the bridge, the bridge asked both ways, the fusion.
    The time of each model, from its construction until the next one is requested, is printed to
    standard error.

    Args:
      run: The trained run.
      split: `validation` or `test`.
      baselines: Names in `bridge_jax.evaluation.baselines.BASELINES`.
      external_models: Paths as `load_external_model` takes them, by the name of their row.

    Raises:
      InputError: As for `evaluate`.
    """
    experiment, config = run.experiment, run.experiment.config.evaluate
    check_rows(config, baselines)
    for path in external_models.values():
        check_external_model(path, experiment)
    if not any(len(q.heads) for q in experiment.queries[split].values()):
        raise InputError(
            f"{experiment.manifest.name} has no {split} query; evaluate another --split, or split "
            "the dataset again"
        )
    graph, train = experiment.graph, experiment.graph.pairs(["train"])
    tables = {name: t.stored.astype(np.float32) for name, t in experiment.tables.items()}
    builders: dict[str, Callable[[], Scorer]] = {
        **{name: partial(BASELINES[name], graph, tables, train) for name in baselines},
        **{
            name: partial(load_external_model, path, experiment)
            for name, path in external_models.items()
        },
        BridgeScorer.name: lambda: run.scorer,
    }
    if config.bidirectional:
        builders[BidirectionalScorer.name] = lambda: bidirectional_of_run(run)
    if config.knn:
        builders[Fusion.name] = lambda: fusion_of_run(run, save=True)
    for name, build in builders.items():
        start = time.monotonic()
        yield name, build()
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def check_rows(config: ConfigDict, baselines: Sequence[str] | None = None) -> None:
    """Checks every name that a table will need, before hours of training go into it.

    Args:
      config: The config's `evaluate` part.
      baselines: Names of baselines, default: those of the config.

    Raises:
      InputError: A baseline or a space of `knn_spaces` is unknown.
    """
    for name in config.baselines if baselines is None else baselines:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES, "this version")
    check_spaces(config.knn_spaces)


def run_metadata(run: TrainedRun, split: str, external_models: Mapping[str, str]) -> dict[str, Any]:
    """Returns the dataset, checkpoint and software behind the results of a run, for JSON files."""
    experiment = run.experiment
    return {
        "dataset": experiment.manifest.name,
        "manifest_sha256": experiment.manifest.hash(),
        "split": split,
        "split_rule": experiment.manifest.split["rule"],
        "checkpoint": run.step,
        "seed": experiment.config.seed,
        **({"compare_with": dict(external_models)} if external_models else {}),
        **provenance(),
    }


def run_evaluators(
    run: TrainedRun, names: Sequence[str], split: str
) -> Iterator[tuple[str, dict[str, float]]]:
    """Runs downstream evaluators and yields the name and the values of each.

    Args:
      run: The trained run.
      names: Names in `bridge_jax.evaluation.evaluators.EVALUATORS`.
      split: `validation` or `test`.

    Raises:
      InputError: An evaluator is unknown, or the dataset lacks what it needs.
    """
    for name, evaluator in make_evaluators(run.experiment, names, split).items():
        yield name, dict(evaluator(run.scorer))


def evaluator_table(evaluator: str, values: Mapping[str, float]) -> str:
    """Formats an evaluator's values as text: a row per metric, a column per representation."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        metric, _, representation = name.partition(": ")
        rows.setdefault(metric, {})[representation or "value"] = value
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [
        [metric, *(format_optional(row.get(column)) for column in columns)]
        for metric, row in rows.items()
    ]
    return text_table(cells, [evaluator, *columns])


def load_external_model(path: str | Path, experiment: Experiment) -> Scorer:
    """Loads a model that `evaluate --compare-with` names.

    Args:
      path: Workdir of another run (its bridge alone, without rerankers), or a folder written by
        `tools.train_pykeen`.
      experiment: The experiment under evaluation; the model must be trained on its dataset.

    Raises:
      InputError: The path is neither, is damaged, or belongs to another dataset.
    """
    folder = Path(path)
    if (folder / MODEL_FILE).is_file():
        return KGEScorer.load(folder, experiment.graph, experiment.manifest.hash())
    return load_run(folder, experiment.config.dataset).scorer


def check_external_model(path: str | Path, experiment: Experiment) -> None:
    """Checks that an external model was trained on the dataset, before anything is ranked.

    A model that cannot be read passes: `load_external_model` reports what is wrong with it.

    Args:
      path: As for `load_external_model`.
      experiment: The experiment under evaluation.

    Raises:
      InputError: The model was trained on another dataset.
    """
    description = Path(path) / MODEL_FILE
    if not description.is_file():
        description = Path(path) / "run.json"
    try:
        stored = json.loads(description.read_bytes())["manifest_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    current = experiment.manifest.hash()
    if stored != current:
        raise InputError(
            f"--compare-with {path}: trained on another dataset (manifest {str(stored)[:12]}; "
            f"{experiment.manifest.name} has {current[:12]}), so it cannot answer the same queries"
        )


def name_external_models(paths: Sequence[str], reserved: Collection[str]) -> dict[str, str]:
    """Names the rows of external models: by their folder, or by the whole path if that is taken.

    Args:
      paths: Paths as `load_external_model` takes them.
      reserved: Names that are taken.

    Returns:
      Path by name.

    Raises:
      InputError: A path is given twice, or is neither a run nor trained embeddings.
    """
    names: dict[str, str] = {}
    for path in paths:
        if not any((Path(path) / file).is_file() for file in (MODEL_FILE, "config.json")):
            raise InputError(
                f"{path}: neither a run (config.json) nor trained embeddings ({MODEL_FILE}); train "
                "one with bridge_jax.train or tools.train_pykeen"
            )
        name = Path(path).name or path
        name = path if name in names or name in reserved else name
        if name in names:
            raise InputError(f"--compare-with names {path} twice")
        names[name] = path
    return names
