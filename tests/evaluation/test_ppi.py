"""The classifier of protein pairs: its pairs, its test sets and its scores."""

import sys

import numpy as np
import pytest

from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.ppi import (
    PROTEIN,
    STRATEGIES,
    ProteinInteraction,
    classify,
    micro_f1,
    pair_features,
    sample_negatives,
    select_test_pairs,
)
from tests.helpers.experiments import fact_rows, with_test_facts


def test_test_pairs_by_hand():
    # A tree below 0, and more pairs that no search from 0 reaches: 20 in all, 4 to be tested.
    tree = [[0, 1], [1, 2], [1, 3], [2, 4], [2, 5], [3, 6], [3, 7]]
    pairs = np.array(tree + [[20, i] for i in range(21, 34)])
    rng = np.random.default_rng(0)
    # Both take the pairs of 0 and 1; then breadth-first those of 2, depth-first those of 3.
    assert np.flatnonzero(select_test_pairs(pairs, "BFS", rng)).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(select_test_pairs(pairs, "DFS", rng)).tolist() == [0, 1, 2, 5, 6]
    assert select_test_pairs(pairs, "random", rng).sum() == 4
    # When a search ends early, another one starts.
    islands = np.array([[i, i + 50] for i in range(10)])
    assert np.flatnonzero(select_test_pairs(islands, "DFS", rng)).tolist() == [0, 1]


def test_negative_pairs_are_no_facts_and_use_the_same_proteins():
    rng = np.random.default_rng(1)
    pairs = np.unique(np.sort(rng.integers(0, 40, (150, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int32)
    both_directions = Pairs(*np.concatenate([pairs, pairs[:, ::-1]]).T)
    negatives = sample_negatives(pairs, [Known.build(both_directions, 40, 40)], rng)
    np.testing.assert_array_equal(negatives[:, 0], pairs[:, 0])
    facts = {tuple(sorted(p)) for p in pairs.tolist()}
    assert not facts & {tuple(sorted(p)) for p in negatives.tolist()}
    assert set(negatives[:, 1].tolist()) <= set(pairs.ravel().tolist())


def test_micro_f1_by_hand():
    truth = np.array([[1, 0], [1, 1], [0, 0]], bool)
    predicted = np.array([[1, 1], [1, 1], [0, 1]], bool)
    assert micro_f1(truth, predicted) == pytest.approx(2 * 3 / (3 + 5))
    assert micro_f1(truth, truth) == 1
    assert micro_f1(truth, ~truth) == 0
    assert micro_f1(truth[2:], truth[2:]) == 0


def test_features_do_not_depend_on_the_order_of_a_pair():
    a, b = np.random.default_rng(3).normal(size=(2, 5, 4))
    np.testing.assert_array_equal(pair_features(a, b), pair_features(b, a))
    assert pair_features(a, b).shape == (5, 8)


def test_the_classifier_finds_a_signal_and_no_more():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 2, (600, 2))
    centres = np.array([[5.0, 0.0], [0.0, 5.0]])
    a, b = (centres[g] + rng.normal(size=(600, 2)) for g in groups.T)
    labels = (groups[:, 0] == groups[:, 1])[:, None]
    tested = rng.random(600) < 0.2
    assert classify(pair_features(a, b), labels, tested) > 0.97
    noise = rng.normal(size=(600, 4))
    assert 0.3 < classify(noise, labels, tested) < 0.7


def test_a_label_without_examples_is_predicted_absent():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 3))
    tested = rng.random(200) < 0.2
    labels = np.stack([x[:, 0] > 0, np.zeros(200, bool)], axis=1)
    assert classify(x, labels, tested) == pytest.approx(classify(x, labels[:, :1], tested))


@pytest.mark.slow
def test_interacting_pairs_are_told_from_negative_pairs(trained_run):
    pytest.importorskip("sklearn")
    experiment = trained_run.experiment
    triple_type = TripleType(PROTEIN, "interacts with", PROTEIN)
    with pytest.raises(InputError, match=r"has 0 test facts between two gene/protein nodes"):
        ProteinInteraction(experiment, "test")
    # Proteins interact if their raw embeddings are similar, so that there is a signal.
    x = experiment.tables[PROTEIN].stored.astype(np.float32)
    x = (x - x.mean(0)) / x.std(0)
    nearest = np.argsort(((x[:, None] - x) ** 2).sum(-1), axis=1)[:, 1:4]
    pairs = Pairs(np.repeat(np.arange(len(x)), 3), nearest.ravel())
    rows = fact_rows(experiment.graph, triple_type, pairs)
    evaluator = ProteinInteraction(with_test_facts(experiment, [rows]), "test")
    assert evaluator.labels.all()
    for strategy, tested in evaluator.tested.items():
        assert 0.19 < tested.mean() < 0.5, strategy
    values = dict(evaluator(trained_run.scorer))
    assert set(values) == {
        f"micro-F1 {strategy}: {vectors}"
        for strategy in STRATEGIES
        for vectors in ("raw", "projected", "bridged")
    }
    assert values["micro-F1 random: raw"] > 0.6


def test_without_scikit_learn_the_extra_is_named(trained_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(InputError, match=r"pip install 'bridge_jax\[evaluators\]'"):
        ProteinInteraction(trained_run.experiment, "test")
