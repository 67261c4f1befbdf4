"""Semantic similarity against values by hand and its definition, one pair at a time."""

from math import log

import numpy as np
import pytest
import scipy.stats

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import model_inputs
from bridge_jax.evaluation.evaluators.semantic_similarity import (
    PROTEIN,
    SemanticSimilarity,
    ancestors,
    annotation_matrix,
    best_match_average,
    common_ancestor_content,
    information_content,
    manhattan_similarity,
)
from tests.helpers.rankings import make_pairs

FUNCTION, COMPONENT = "molecular_function", "cellular_component"
TO_FUNCTION = TripleType(PROTEIN, "interacts with", FUNCTION)
# An ontology of five terms: 0 is a parent of 1 and 2, which are parents of 3; 4 is unconnected.
PARENTS = make_pairs((0, 1), (0, 2), (1, 3), (2, 3))
# Proteins 0 to 3 and their terms.
ANNOTATED = make_pairs((0, 3), (1, 1), (1, 4), (2, 2), (3, 4))


def test_ancestors_by_hand():
    rows = [np.flatnonzero(row).tolist() for row in ancestors(PARENTS, 5)]
    assert rows == [[0], [0, 1], [0, 2], [0, 1, 2, 3], [4]]
    with pytest.raises(InputError, match="form a cycle"):
        ancestors(make_pairs((0, 1), (1, 2), (2, 0)), 3)


def test_information_content_and_similarity_by_hand():
    is_ancestor = ancestors(PARENTS, 5)
    annotations = annotation_matrix(ANNOTATED, (4, 5))
    content = information_content(annotations, is_ancestor)
    # Of 4 proteins 3 have term 0 or a descendant; 2 have 1, 2 have 2, 1 has 3, 2 have 4.
    np.testing.assert_allclose(content, [log(4 / 3), log(2), log(2), log(4), log(2)], rtol=1e-6)
    common = common_ancestor_content(is_ancestor, content)
    assert common[1, 2] == pytest.approx(log(4 / 3))  # the root is their only common ancestor
    assert common[1, 3] == pytest.approx(log(2))
    assert common[3, 3] == pytest.approx(log(4))
    assert common[1, 4] == 0

    resnik = best_match_average(annotations, is_ancestor, content, "Resnik")
    lin = best_match_average(annotations, is_ancestor, content, "Lin")
    # Proteins 0 {3} and 1 {1, 4}: the best match of 3 is 1; that of 1 is 3; 4 has none.
    assert resnik[0] == pytest.approx((log(2) + (log(2) + 0) / 2) / 2)
    similarity = 2 * log(2) / (log(4) + log(2))
    assert lin[0] == pytest.approx((similarity + (similarity + 0) / 2) / 2)
    # 0 {3} and 2 {2}; 1 {1, 4} and 3 {4}: 1/2 in one direction, 1 in the other.
    assert lin[1] == pytest.approx(similarity)
    assert lin[4] == pytest.approx((1 / 2 + 1) / 2)
    assert lin[5] == resnik[5] == 0  # 2 {2} and 3 {4}


def test_manhattan_similarity_by_hand():
    x = np.array([[1.0, -1.0], [2.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_allclose(manhattan_similarity(x), [1 - 2 / 4, 1 - 4 / 4, 1 - 4 / 4])


def test_values_match_the_definition(trained_run):
    experiment, scorer = trained_run.experiment, trained_run.scorer
    evaluator = SemanticSimilarity(experiment, "test")
    values = dict(evaluator(scorer))
    assert set(values) == {
        f"{ontology} {measure}: {vectors}"
        for ontology in (FUNCTION, COMPONENT)
        for measure in ("Lin", "Resnik")
        for vectors in ("raw", "projected", "bridged")
    }
    heldout = np.flatnonzero(experiment.graph.heldout_mask(PROTEIN, ["test"]))
    annotated = np.unique(experiment.graph.pairs()[TO_FUNCTION].heads)
    nodes = evaluator.nodes[TO_FUNCTION]
    np.testing.assert_array_equal(nodes, np.intersect1d(heldout, annotated))
    raw = experiment.tables[PROTEIN].stored[nodes].astype(np.float64)
    x = model_inputs(experiment, PROTEIN, raw.astype(np.float32))
    bridged = np.asarray(scorer.queries(TO_FUNCTION, x), np.float64)
    for vectors, v in (("raw", raw), ("bridged", bridged)):
        similarity = [
            1 - np.abs(v[i] - v[j]).sum() / (np.abs(v[i]).sum() + np.abs(v[j]).sum())
            for i in range(len(v))
            for j in range(i + 1, len(v))
        ]
        truth = evaluator.truth[TO_FUNCTION, "Lin"]
        expected = scipy.stats.spearmanr(truth, similarity).statistic
        assert values[f"{FUNCTION} Lin: {vectors}"] == pytest.approx(expected, abs=1e-6)
