"""Selection of a fusion on the validation split, and the fusion of a run."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.evaluation.baselines.head_knn import HeadKNN
from bridge_jax.evaluation.baselines.tail_knn import TailKNN
from bridge_jax.evaluation.calibration import calibrate
from bridge_jax.evaluation.fusion_settings import FusionSettings, read_settings, write_settings
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun
from bridge_jax.models import knn
from bridge_jax.models.bidirectional import BidirectionalScorer
from bridge_jax.models.fusion import AnswerScorer, Evidence, Fusion, Voter, check_spaces, mix
from bridge_jax.models.scorer import BridgeScorer

KNN_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)
REVERSE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)


def fusion_of_run(run: TrainedRun, *, save: bool = False) -> Fusion:
    """Returns the fusion of a run.

    Args:
      run: The trained run.
      save: As for `settings_of_folder`.

    Raises:
      InputError: As for `settings_of_folder`.
    """
    return build_fusion(run.experiment, run.scorer, settings_of_run(run, save=save))


def settings_of_run(run: TrainedRun, *, save: bool = False) -> FusionSettings:
    """Returns the settings of a run's fusion; see `settings_of_folder`."""
    return settings_of_folder(run.workdir, run.experiment, run.step, run.scorer, save=save)


def bidirectional_of_run(run: TrainedRun) -> BidirectionalScorer:
    """Returns the bridge asked both ways, with weights as they are stored, or selected now."""
    settings = _stored_settings(run.workdir, run.experiment, run.step)
    graph, bridge = run.experiment.graph, run.scorer
    weights = settings.reverse_weights if settings else fit_reverse_weights(graph, bridge)
    return BidirectionalScorer(graph, bridge, weights)


def settings_of_folder(
    folder: Path, experiment: Experiment, step: int, bridge: BridgeScorer, *, save: bool = False
) -> FusionSettings:
    """Returns the settings of a fusion: as they are stored, or else selected now.

    Args:
      folder: Folder of a run or of an exported bridge.
      experiment: Config and dataset.
      step: Step of the checkpoint.
      bridge: The trained bridge.
      save: Whether to store what is selected now; if not, a notice is printed.

    Raises:
      InputError: The stored settings are damaged, or the config names an unknown space.
    """
    settings = _stored_settings(folder, experiment, step)
    if settings is None:
        if not save:
            print(
                f"notice: {folder}: has no fusion for the checkpoint of step {step}; selecting its "
                "weights on the validation split (bridge_jax.evaluate stores them)",
                file=sys.stderr,
            )
        settings = fit_fusion(experiment, bridge, step)
        if save:
            write_settings(folder, settings)
    return settings


def _stored_settings(folder: Path, experiment: Experiment, step: int) -> FusionSettings | None:
    """Returns the settings in a folder if they fit the checkpoint and the config."""
    config = experiment.config.evaluate
    spaces = tuple(config.knn_spaces)
    check_spaces(spaces)
    settings = read_settings(folder)
    fits = settings and settings.fits(
        step, experiment.manifest.hash(), spaces, config.bidirectional
    )
    return settings if fits else None


def build_fusion(experiment: Experiment, bridge: BridgeScorer, settings: FusionSettings) -> Fusion:
    """Builds a fusion from its settings.

    Args:
      experiment: Dataset of the run.
      bridge: The trained bridge.
      settings: Settings of the fusion.
    """
    graph, train = experiment.graph, experiment.graph.pairs(["train"])
    tables = {name: t.stored for name, t in experiment.tables.items()}
    spaces: dict[str, knn.Space] = {
        **knn.embedding_spaces(graph, tables),
        knn.BRIDGED: knn.BridgedSpace(bridge),
    }
    voters: dict[str, Voter] = {}
    for name in settings.spaces:
        make = knn.TailKNN if name == "tails" else knn.HeadKNN
        voters[name] = make(graph, train, spaces, settings.settings[name])
    scorer: AnswerScorer = bridge
    if settings.reverse_weights:
        scorer = BidirectionalScorer(graph, bridge, settings.reverse_weights)
    return Fusion(scorer, voters, settings.weights)


def fit_fusion(experiment: Experiment, bridge: BridgeScorer, step: int) -> FusionSettings:
    """Selects all settings of a fusion on the validation split.

    The order is: the neighbours of each space, the weight of the reverse query, the weights of the
    spaces. Then the confidence of the answers is measured.

    Args:
      experiment: Config and dataset of the run; `evaluate.knn_spaces` names the spaces,
        `evaluate.bidirectional` decides about the reverse query.
      bridge: The trained bridge.
      step: Step of its checkpoint.
    """
    config, graph = experiment.config.evaluate, experiment.graph
    train = graph.pairs(["train"])
    tables = {name: t.stored.astype(np.float32) for name, t in experiment.tables.items()}
    voters: dict[str, Any] = {}
    for name in config.knn_spaces:
        if name == "tails":
            voters[name] = TailKNN(graph, tables, train)
        elif name == knn.BRIDGED:
            voters[name] = HeadKNN(graph, {}, train, {knn.BRIDGED: knn.BridgedSpace(bridge)})
        else:
            voters[name] = HeadKNN(graph, tables, train)
    reverse = fit_reverse_weights(graph, bridge) if config.bidirectional else {}
    scorer: AnswerScorer = BidirectionalScorer(graph, bridge, reverse) if reverse else bridge
    weights = fit_weights(graph, scorer, voters)
    queries = {t: pairs for t, (pairs, _) in validation_queries(graph).items()}
    return FusionSettings(
        step,
        experiment.manifest.hash(),
        tuple(voters),
        weights,
        {name: dict(voter.settings) for name, voter in voters.items()},
        reverse,
        calibrate(Fusion(scorer, voters, weights), graph, queries),
    )


def fit_weights(
    graph: Graph, bridge: AnswerScorer, voters: Mapping[str, Voter]
) -> dict[TripleType, tuple[float, ...]]:
    """Selects the weights of the spaces for each triple type by MRR on the validation split.

    Args:
      graph: The split graph.
      bridge: The trained bridge.
      voters: Voter of each space.
    """
    weights = {}
    fusion = Fusion(bridge, voters, {})
    for triple_type, (queries, known) in validation_queries(graph).items():
        heads = np.unique(queries.heads)
        grid = weight_grid(len(voters))
        weights[triple_type] = grid[0]
        if len(heads):
            evidence = fusion.evidence(triple_type, heads)
            make_scorer = partial(_precomputed_scorer, heads, evidence)
            weights[triple_type] = select_by_mrr(grid, make_scorer, triple_type, queries, known)
    return weights


def fit_reverse_weights(graph: Graph, bridge: BridgeScorer) -> dict[TripleType, float]:
    """Selects the weight of the reverse query for each triple type, as `fit_weights` does.

    Args:
      graph: The split graph.
      bridge: The trained bridge.
    """
    scorer = BidirectionalScorer(graph, bridge, {})
    return {
        triple_type: select_by_mrr(
            REVERSE_WEIGHTS, lambda w: partial(scorer.score, weight=w), triple_type, *validation
        )
        for triple_type, validation in validation_queries(graph).items()
    }


def weight_grid(num_spaces: int) -> list[tuple[float, ...]]:
    """Returns the weights to select from: a total, shared equally by one or more spaces."""
    spaces = range(num_spaces)
    subsets = [subset for n in spaces for subset in combinations(spaces, n + 1)]
    grid = [
        tuple(total / len(subset) * (space in subset) for space in spaces)
        for total in KNN_WEIGHTS[1:]
        for subset in subsets
    ]
    return [(0.0,) * num_spaces, *grid]


def _precomputed_scorer(heads: np.ndarray, evidence: Evidence, weights: Sequence[float]) -> Scorer:
    """Returns the fusion under some weights, for heads (ascending) with known evidence."""
    scores = mix(evidence, tuple(weights))
    return lambda _, batch: scores[jnp.asarray(np.searchsorted(heads, batch))]
