"""Confidences: monotone, counted right, and compared with another split."""

import json

import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.graph import Pairs
from bridge_jax.evaluation.calibration import (
    ConfidenceBin,
    are_facts,
    best_answers,
    confidence_of,
    fit_confidence,
)
from bridge_jax.evaluation.reliability import ReliabilityPoint, calibration_error
from bridge_jax.models.fusion import Fusion


def test_confidences_rise_with_the_probability_and_keep_every_answer():
    rng = np.random.default_rng(0)
    probability = rng.random(3000) ** 3
    is_fact = rng.random(3000) < 0.2 + 0.5 * probability
    bins = fit_confidence(probability, is_fact)
    assert len(bins) > 3
    known = [b.known for b in bins]
    assert known == sorted(set(known))
    assert sum(b.num_answers for b in bins) == 3000
    np.testing.assert_allclose(sum(b.known * b.num_answers for b in bins), is_fact.sum())
    for p in (0.05, 0.5, 0.95):
        found = confidence_of(bins, p)
        assert abs(found.known - (0.2 + 0.5 * p)) < 0.15


def test_a_falling_share_becomes_one_bin():
    probability = np.linspace(0.1, 0.9, 100)
    bins = fit_confidence(probability, probability < 0.5)
    assert len(bins) == 1
    assert bins[0] == pytest.approx(ConfidenceBin(0.1, 0.5, 100))
    assert confidence_of(bins, 0.0) == bins[0]
    assert fit_confidence(np.zeros(0), np.zeros(0, bool)) == ()
    assert confidence_of((), 0.5) is None


def test_answers_are_looked_up_among_the_facts():
    pairs = Pairs(np.int32([3, 3, 7]), np.int32([0, 9, 4]))
    answers = np.array([[0, 1, 9], [4, 0, 9]])
    expected = [[True, False, True], [True, False, False]]
    np.testing.assert_array_equal(are_facts(pairs, np.array([3, 7]), answers), expected)


def test_the_best_answers_are_those_of_the_scores_without_known_facts(trained_run):
    experiment, scorer = trained_run.experiment, trained_run.scorer
    triple_type, pairs = next(iter(experiment.queries["test"].items()))
    known = experiment.known_before_test[triple_type]
    heads = np.unique(pairs.heads)[:5]
    probability, answers = best_answers(scorer, triple_type, heads, known)
    scores = np.asarray(scorer(triple_type, heads), np.float64)
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for i, head in enumerate(heads):
        kept = softmax[i].copy()
        kept[known.of(np.int32([head]))[1]] = -1
        if triple_type.head == triple_type.tail:
            kept[head] = -1
        np.testing.assert_allclose(probability[i], np.sort(kept)[::-1][:10], rtol=1e-4)
        np.testing.assert_allclose(kept[answers[i]], probability[i], rtol=1e-4)


def test_the_calibration_error_is_weighted_by_the_answers():
    points = [ReliabilityPoint("a", 0.5, 0.4, 30), ReliabilityPoint("b", 0.1, 0.5, 10)]
    assert calibration_error(points) == pytest.approx((30 * 0.1 + 10 * 0.4) / 40)
    assert calibration_error([]) == 0


def test_evaluate_writes_how_reliable_the_confidences_are(run_copy, capsys):
    assert evaluate.main(["--workdir", str(run_copy), "--baselines"]) == 0
    assert "confidence: off by" in capsys.readouterr().out
    written = json.loads((run_copy / "eval/test/confidence.json").read_text())
    assert 0 <= written["calibration_error"] < 1
    tasks = {p["task"] for p in written["points"]}
    assert len(tasks) >= 4
    assert all(0 <= p["observed"] <= 1 and p["num_answers"] > 0 for p in written["points"])
    assert (run_copy / "eval/test/confidence.png").read_bytes().startswith(b"\x89PNG")
    assert (run_copy / "fusion.json").is_file()
    assert Fusion.name in (run_copy / "eval/test/results.md").read_text()
