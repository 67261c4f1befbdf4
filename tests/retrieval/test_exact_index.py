"""Exact search against a sort of all scores, and nodes looked up by id and name."""

import numpy as np
import pytest

from bridge_jax.errors import InputError
from bridge_jax.retrieval.exact_index import Index
from bridge_jax.retrieval.node_names import NodeIndex

NAMES = NodeIndex(
    "drug",
    ["D1", "D2", "D3", "D4", "D5"],
    ["Aspirin", "Metformin", "aspirin", "Acetyl-aspirin plus", "D5"],
)


def expected(queries, keys, scale, bias, k):
    scores = scale * (queries.astype(np.float64) @ keys.T.astype(np.float64)) + bias
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("block", [7, 64, 1000])
@pytest.mark.parametrize(("count", "k", "asked"), [(5, 10, 1), (64, 3, 17), (200, 40, 300)])
def test_search_is_a_sort_of_all_scores(block, count, k, asked):
    rng = np.random.default_rng(count)
    keys = rng.normal(size=(count, 12)).astype(np.float32)
    queries = rng.normal(size=(asked, 12)).astype(np.float32)
    bias = rng.normal(size=count).astype(np.float32)
    scores, rows = Index(keys, 3.0, bias, block).search(queries, k)
    wanted, order = expected(queries, keys, 3.0, bias, k)
    assert scores.shape == (asked, min(k, count))
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("block", [2, 3, 100])
def test_equal_scores_keep_the_order_of_the_keys(block):
    keys = np.float32([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0]])
    _, rows = Index(keys, block=block).search(np.float32([[1, 0], [0, 1]]), 6)
    assert rows.tolist() == [[0, 2, 3, 5, 1, 4], [1, 4, 0, 2, 3, 5]]


@pytest.mark.parametrize("block", [4500, 16400])
@pytest.mark.parametrize("k", [3, 40])
def test_groups_spare_sorting_and_lose_no_key_and_no_order(block, k):
    rng = np.random.default_rng(0)
    keys = rng.geometric(0.5, (16400, 3)).astype(np.float32)  # few scores: full of ties
    queries = rng.geometric(0.5, (20, 3)).astype(np.float32)
    scores, rows = Index(keys, block=block).search(queries, k)
    wanted, order = expected(queries, keys, 1.0, 0.0, k)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, wanted)


def test_scores_below_zero_still_come_before_the_padding():
    keys = -np.ones((5, 3), np.float32) * np.float32([[1], [2], [3], [4], [5]])
    scores, rows = Index(keys, block=4).search(np.ones((1, 3), np.float32), 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]
    assert scores.tolist() == [[-3, -6, -9, -12, -15]]


def test_names_are_found_whatever_their_case():
    assert NAMES.with_name("METFORMIN") == 1
    assert NAMES.with_name("  acetyl-Aspirin  PLUS ") == 3
    assert NAMES.with_name("aspirin") == 2  # spelled exactly so by one of two
    assert NAMES.with_id("D2") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ASPIRIN",
            r"2 nodes of type drug are named 'ASPIRIN': 'Aspirin' \(D1\), 'aspirin' \(D3\)",
        ),
        ("metformine", r"no drug is named 'metformine'; did you mean 'Metformin' \(D2\)\?$"),
        ("acetyl", r"no drug is named 'acetyl'; did you mean 'Acetyl-aspirin plus' \(D4\)\?$"),
        ("zzzzzz", r"no drug is named 'zzzzzz'$"),
        ("", r"no drug is named ''"),
    ],
)
def test_a_name_that_does_not_fit_is_answered_with_what_might(name, message):
    with pytest.raises(InputError, match=message):
        NAMES.with_name(name)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("D22", r"no drug has the id 'D22'; did you mean 'D2'\?"),
        ("metformin", r"it is the name of 'Metformin' \(D2\); ask for it by name"),
        ("xyzzy", r"ids look like 'D1'"),
    ],
)
def test_an_id_that_does_not_fit_is_answered_with_what_might(node, message):
    with pytest.raises(InputError, match=message):
        NAMES.with_id(node)


def test_search_puts_equal_before_beginning_before_holding():
    assert NAMES.search("aspirin", 10) == [0, 2, 3]
    assert NAMES.search("d", 2) == [0, 1]
    assert NAMES.search("metfromin", 3) == [1]
    assert NAMES.search("", 2) == [0, 1]
