"""Exact search against a stable sort of all scores in float64."""

import numpy as np
import pytest

from bridge_jax.errors import InputError
from bridge_jax.retrieval.exact_index import ExactIndex


def search_by_sorting(queries, keys, scale, bias, k):
    """Scores and rows of the k best keys, best first; equal scores in the order of the keys."""
    scores = scale * (queries.astype(np.float64) @ keys.T.astype(np.float64)) + bias
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("block_size", [7, 64, 1000])
@pytest.mark.parametrize(
    ("num_keys", "k", "num_queries"), [(5, 10, 1), (64, 3, 17), (200, 40, 300)]
)
def test_search_equals_a_sort_of_all_scores(block_size, num_keys, k, num_queries):
    rng = np.random.default_rng(num_keys)
    keys = rng.normal(size=(num_keys, 12)).astype(np.float32)
    queries = rng.normal(size=(num_queries, 12)).astype(np.float32)
    bias = rng.normal(size=num_keys).astype(np.float32)
    scores, rows = ExactIndex(keys, 3.0, bias, block_size).search(queries, k)
    expected_scores, expected_rows = search_by_sorting(queries, keys, 3.0, bias, k)
    assert scores.shape == (num_queries, min(k, num_keys))
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("block_size", [2, 3, 100])
def test_equal_scores_keep_the_order_of_the_keys(block_size):
    keys = np.float32([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0]])
    _, rows = ExactIndex(keys, block_size=block_size).search(np.float32([[1, 0], [0, 1]]), 6)
    assert rows.tolist() == [[0, 2, 3, 5, 1, 4], [1, 4, 0, 2, 3, 5]]


@pytest.mark.parametrize("block_size", [4500, 16400])
@pytest.mark.parametrize("k", [3, 40])
def test_grouped_top_k_loses_no_key_and_keeps_the_order(block_size, k):
    rng = np.random.default_rng(0)
    keys = rng.geometric(0.5, (16400, 3)).astype(np.float32)  # few distinct scores: many ties
    queries = rng.geometric(0.5, (20, 3)).astype(np.float32)
    scores, rows = ExactIndex(keys, block_size=block_size).search(queries, k)
    expected_scores, expected_rows = search_by_sorting(queries, keys, 1.0, 0.0, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_negative_scores_rank_above_the_padding():
    keys = -np.ones((5, 3), np.float32) * np.float32([[1], [2], [3], [4], [5]])
    scores, rows = ExactIndex(keys, block_size=4).search(np.ones((1, 3), np.float32), 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]
    assert scores.tolist() == [[-3, -6, -9, -12, -15]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    keys, queries = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
    bad = keys.copy()
    bad[2, 1] = value
    with pytest.raises(InputError, match=r"^key 2: NaN or infinite"):
        ExactIndex(bad)
    with pytest.raises(InputError, match=r"^bias of key 3: NaN or infinite"):
        ExactIndex(keys, bias=np.array([0, 0, 0, value], np.float32))
    with pytest.raises(InputError, match="the factor of the scores is"):
        ExactIndex(keys, scale=value)
    queries[1, 0] = value
    with pytest.raises(InputError, match=r"^query 1: NaN or infinite"):
        ExactIndex(keys).search(queries, 2)


def test_scores_that_overflow_are_refused_and_large_finite_values_are_not():
    keys = np.full((4, 3), 1e19, np.float32)
    with pytest.raises(InputError, match=r"^the scores of query 0: NaN or infinite"):
        ExactIndex(keys, scale=1e5).search(keys[:1], 2)
    scores, _ = ExactIndex(np.full((2, 3), 3e38, np.float32)).search(np.full((1, 3), 0.1, "f4"), 1)
    assert np.isfinite(scores).all()
