"""Reliability of the confidences: how often answers of a confidence are facts of another split."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import TripleType, known_positives
from bridge_jax.errors import InputError
from bridge_jax.evaluation.calibration import are_facts, best_answers, confidence_of
from bridge_jax.evaluation.fusion_settings import FusionSettings
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.fusion import Fusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_HEADS = 256  # heads of each triple type that are asked


class ReliabilityPoint(NamedTuple):
    """Answers of one confidence.

    Attributes:
      task: Triple type, as text.
      confidence: Confidence that they were given.
      observed: Share that are facts of the split.
      num_answers: Number of answers.
    """

    task: str
    confidence: float
    observed: float
    num_answers: int


def measure_reliability(
    experiment: Experiment, fusion: Fusion, settings: FusionSettings, split: str, seed: int = 0
) -> list[ReliabilityPoint]:
    """Compares the confidences of a fusion with the facts of a split.

    For a sample of heads, the best ten answers that are not facts of training (or, for the test
    split, of validation) are compared with the facts of the split.

    Args:
      experiment: Dataset of the run.
      fusion: The fusion.
      settings: Its settings, with the confidences.
      split: `validation` or `test`.
      seed: Seed of the sample, default 0.
    """
    excluded = ("train",) if split == "validation" else ("train", "validation")
    known = known_positives(experiment.graph, excluded)
    points = []
    for triple_type, pairs in experiment.queries[split].items():
        bins = settings.confidence.get(triple_type, ())
        if not bins or not len(pairs.heads):
            continue
        heads = np.random.default_rng(seed).permutation(np.unique(pairs.heads))[:NUM_HEADS]
        heads = np.sort(heads)
        probability, answers = best_answers(fusion, triple_type, heads, known[triple_type])
        given = [confidence_of(bins, p) for p in probability.ravel().tolist()]
        confidence = np.array([0.0 if b is None else b.known for b in given])
        points += _points(triple_type, confidence, are_facts(pairs, heads, answers).ravel())
    return points


def _points(
    triple_type: TripleType, confidence: np.ndarray, is_fact: np.ndarray
) -> list[ReliabilityPoint]:
    points = []
    for value in np.unique(confidence).tolist():
        same = confidence == value
        observed = float(is_fact[same].mean())
        points.append(ReliabilityPoint(str(triple_type), value, observed, int(same.sum())))
    return points


def calibration_error(points: list[ReliabilityPoint]) -> float:
    """Returns the expected calibration error: the mean of |observed - confidence| over answers."""
    counts = np.array([p.num_answers for p in points], float)
    gaps = np.array([abs(p.observed - p.confidence) for p in points])
    return float((counts * gaps).sum() / max(counts.sum(), 1))


def publish_reliability(points: list[ReliabilityPoint], about: dict[str, Any], folder: Path) -> str:
    """Writes `confidence.json` and `confidence.png`; returns a line for the terminal.

    Args:
      points: Points of `measure_reliability`.
      about: Metadata for the JSON file.
      folder: Folder to write to.
    """
    error = calibration_error(points)
    value = {"about": about, "calibration_error": error, "points": [p._asdict() for p in points]}
    write_json(folder / "confidence.json", value)
    with atomic_file(folder / "confidence.png") as temporary:
        plot_reliability(points).savefig(temporary, format="png")
    return (
        f"confidence: off by {error:.3f} in the mean (calibration error over "
        f"{sum(p.num_answers for p in points):,} answers); {folder}/confidence.png"
    )


def plot_reliability(points: list[ReliabilityPoint]) -> "Figure":
    """Plots the observed share of facts against the confidence; a good one lies on the diagonal.

    Args:
      points: Points of `measure_reliability`; their area is the number of answers.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise InputError("the plot needs matplotlib: pip install matplotlib") from e
    figure = Figure(figsize=(6, 6), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.13, 0.11, 0.82, 0.78))
    shown = [p for p in points if p.num_answers >= 10]
    limit = 1.1 * max([0.1, *(max(p.confidence, p.observed) for p in shown)])
    axes.plot([0, limit], [0, limit], color="#B0B0B0", lw=1)
    axes.scatter(
        [p.confidence for p in shown],
        [p.observed for p in shown],
        s=[4 * p.num_answers**0.5 for p in shown],
        color="#D55E00",
        alpha=0.55,
        linewidths=0,
    )
    axes.set(
        xlim=(0, limit),
        ylim=(0, limit),
        xlabel="confidence (share of facts on the validation split)",
        ylabel="share of facts on this split",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.13, 0.95, "Reliability of the confidences", fontsize=12, weight="bold")
    figure.text(
        0.13, 0.915, "a point is the answers of one confidence to one task; area: their number",
        fontsize=8, color="#555555",
    )  # fmt: skip
    return figure
