"""Transforms and validation queries that baselines and the fusion share."""

import numpy as np
import pytest

from bridge_jax.data.embedding_tables import apply_transform, fit_transform
from bridge_jax.data.graph import Known
from bridge_jax.evaluation.tuning import select_by_mrr, transform_tables, validation_queries
from tests.helpers.planted_graph import NUM_DRUGS, TARGET, planted_graph
from tests.helpers.rankings import lookup_scorer, make_pairs


def test_whitened_dimensions_do_not_correlate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) @ (np.eye(6) + rng.random((6, 6)))
    rows = np.arange(0, 500, 2)
    white = apply_transform(x, *fit_transform(x, rows, "whiten"))
    np.testing.assert_allclose(np.cov(white[rows], rowvar=False), np.eye(6), atol=1e-3)


def test_transforms_are_fitted_on_training_nodes_only():
    graph, tables = planted_graph()
    tables["drug"][~np.isin(np.arange(NUM_DRUGS), graph.train_nodes("drug"))] += 100
    drugs = transform_tables(graph, tables, "standardise")["drug"][graph.train_nodes("drug")]
    np.testing.assert_allclose(drugs.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(drugs.std(axis=0), 1, atol=1e-5)


def test_validation_queries_keep_all_tails_of_the_sampled_heads():
    graph, _ = planted_graph()
    all_queries = graph.queries("validation")[TARGET]
    sample = validation_queries(graph, num_heads=4)[TARGET][0]
    heads = np.unique(sample.heads)
    assert len(heads) == 4
    assert sorted(zip(*sample, strict=True)) == [
        (h, t) for h, t in zip(*all_queries, strict=True) if h in heads
    ]


@pytest.mark.parametrize(
    ("pairs", "expected"), [([(0, 1)], "b"), ([(0, 0)], "a"), ([(0, 2)], "a"), ([], "a")]
)
def test_the_setting_with_the_highest_mrr_is_selected_and_the_first_in_a_tie(pairs, expected):
    scores = {"a": [[3.0, 1.0, 2.0]], "b": [[1.0, 3.0, 2.0]]}
    queries = make_pairs(*pairs)
    known = Known.build(queries, 1, 3)
    make_scorer = {name: lookup_scorer(values) for name, values in scores.items()}.__getitem__
    assert select_by_mrr(["a", "b"], make_scorer, TARGET, queries, known) == expected
