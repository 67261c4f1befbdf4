"""Ranks and metrics against a dense reference, values computed by hand, and PyKEEN."""

import warnings
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax.data.graph import Known, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.ranking import (
    Ranks,
    bootstrap_mrr,
    chance_mrr,
    confidence_interval,
    list_metrics,
    metrics,
    mrr_by_degree,
    paired_p_value,
    pool,
    rank,
)
from tests.helpers.rankings import lookup_scorer, make_pairs

TREATS = TripleType("drug", "treats", "disease")
BINDS = TripleType("protein", "binds", "protein")


def reference_ranks(scores, triple_type, queries, known):
    """Ranks by the definition, one query and one candidate at a time."""
    same_type = triple_type.head == triple_type.tail
    facts = {(h, t) for h in range(len(scores)) for t in known.of(np.array([h], np.int32))[1]}
    rows = []
    for head, tail in zip(*queries, strict=True):
        competitors = [
            s
            for t, s in enumerate(scores[head].astype(np.float64))
            if t != tail and (head, t) not in facts and not (same_type and t == head)
        ]
        true = float(scores[head, tail])
        above = sum(s > true for s in competitors)
        ties = sum(s == true for s in competitors)
        rows.append((above + 1, above + ties + 1, len(competitors) + 1))
    return np.array(rows).T


def random_queries(triple_type, heads=23, tails=23, seed=0):
    """Scores with many ties, unordered queries, and known positives beyond the queries."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (heads, tails)).astype(np.float32) / 4
    facts = np.argwhere(rng.random((heads, tails)) < 0.3).astype(np.int32)
    facts = facts[(facts[:, 0] != facts[:, 1]) | (triple_type.head != triple_type.tail)]
    known = Known.build(make_pairs(*facts), heads, tails)
    return scores, make_pairs(*rng.permutation(facts)[: len(facts) // 2]), known


@pytest.mark.parametrize("block", [1, 5, 256])
@pytest.mark.parametrize(("triple_type", "tails"), [(TREATS, 31), (BINDS, 23)])
def test_ranks_match_the_definition(triple_type, tails, block):
    scores, queries, known = random_queries(triple_type, tails=tails)
    ranks = rank(lookup_scorer(scores), triple_type, queries, known, block=block)
    expected = reference_ranks(scores, triple_type, queries, known)
    optimistic, pessimistic, candidates = expected
    assert (ranks.heads == queries.heads).all()
    assert (ranks.tails == queries.tails).all()
    np.testing.assert_array_equal(ranks.optimistic, optimistic)
    np.testing.assert_array_equal(ranks.pessimistic, pessimistic)
    np.testing.assert_array_equal(ranks.candidates, candidates)
    assert (optimistic < pessimistic).mean() > 0.3


def test_ties_filters_and_several_positives_by_hand():
    # Head 0: tail 2 is a training fact; 0 and 3 are queries. Competitors: 1, 4, 5 (.8, .5, .1).
    scores = np.array([[0.5, 0.8, 0.9, 0.8, 0.5, 0.1], [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]])
    known = Known.build(make_pairs((0, 0), (0, 2), (0, 3), (1, 4)), 2, 6)
    ranks = rank(lookup_scorer(scores), TREATS, make_pairs((0, 0), (0, 3), (1, 4)), known)
    assert ranks.optimistic.tolist() == [2, 1, 1]
    assert ranks.pessimistic.tolist() == [3, 2, 6]
    assert ranks.realistic.tolist() == [2.5, 1.5, 3.5]
    assert ranks.candidates.tolist() == [4, 4, 6]

    values = metrics(ranks)
    assert values["mrr"] == pytest.approx((1 / 2.5 + 1 / 1.5 + 1 / 3.5) / 3)
    assert values["mrr_optimistic"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert values["mrr_pessimistic"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 6) / 3)
    assert [values[f"hits@{k}"] for k in (1, 3, 10)] == pytest.approx([0, 2 / 3, 1])
    assert values["mean_rank"] == pytest.approx(2.5)
    assert values["amri"] == pytest.approx(1 - 1.5 / ((2.5 + 2.5 + 3.5) / 3 - 1))
    chance = (2 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4 + 2.45 / 6) / 3
    assert values["adjusted_mrr"] == pytest.approx((values["mrr"] - chance) / (1 - chance))
    assert values["mrr_by_head"] == pytest.approx(((1 / 2.5 + 1 / 1.5) / 2 + 1 / 3.5) / 2)


def test_a_head_is_not_its_own_candidate():
    scores = np.array([[9.0, 1.0, 0.0], [0.0, 9.0, 1.0], [0.0, 0.0, 9.0]])
    queries = make_pairs((0, 1), (1, 2))
    known = Known.build(queries, 3, 3)
    ranks = rank(lookup_scorer(scores), BINDS, queries, known)
    assert ranks.realistic.tolist() == [1, 1]
    assert ranks.candidates.tolist() == [2, 2]
    across = rank(lookup_scorer(scores), TREATS, queries, known)
    assert across.realistic.tolist() == [2, 2]


def test_tails_of_one_head_do_not_compete_even_if_they_are_not_known():
    scores = np.array([[3.0, 2.0, 1.0, 0.0]])
    ranks = rank(
        lookup_scorer(scores), TREATS, make_pairs((0, 0), (0, 2)), Known.build(make_pairs(), 1, 4)
    )
    assert ranks.realistic.tolist() == [1, 2]
    assert ranks.candidates.tolist() == [3, 3]


def test_a_perfect_model_scores_one_and_a_constant_model_the_middle_rank():
    _, queries, known = random_queries(TREATS, heads=40, tails=37)
    truth = np.zeros((40, 37))
    truth[queries.heads, queries.tails] = 1
    perfect = metrics(rank(lookup_scorer(truth), TREATS, queries, known))
    for name in ("mrr", "hits@1", "hits@10", "mean_rank", "amri", "adjusted_mrr", "mrr_by_head"):
        assert perfect[name] == 1, name
    assert perfect["ndcg@10"] == perfect["ndcg@50"] == perfect["recall@50"] == 1

    constant = rank(lookup_scorer(np.zeros((40, 37))), TREATS, queries, known)
    n = constant.candidates
    np.testing.assert_array_equal(constant.realistic, (n + 1) / 2)
    values = metrics(constant)
    assert values["mrr"] == pytest.approx(np.mean(2 / (n + 1)))
    assert values["mrr_optimistic"] == 1
    assert values["mrr_pessimistic"] == pytest.approx(np.mean(1 / n))
    assert values["amri"] == pytest.approx(0)


def test_chance_adjusted_metrics_are_zero_for_random_scores():
    scores = np.random.default_rng(1).random((800, 50))
    queries = make_pairs(*((h, t) for h in range(800) for t in (3, 7, 11)))
    values = metrics(rank(lookup_scorer(scores), TREATS, queries, Known.build(queries, 800, 50)))
    assert abs(values["amri"]) < 0.05
    assert abs(values["adjusted_mrr"]) < 0.02
    assert values["mrr"] > 0.08


def test_infinite_scores_are_ranked():
    scores = np.array([[-np.inf, -np.inf, 0.0, np.inf]])
    queries = make_pairs((0, 0), (0, 3))
    ranks = rank(lookup_scorer(scores), TREATS, queries, Known.build(queries, 1, 4))
    assert ranks.optimistic.tolist() == [2, 1]
    assert ranks.pessimistic.tolist() == [3, 1]


@pytest.mark.parametrize("cell", [(2, 0), (2, 1), (2, 3)])
def test_a_nan_score_is_an_error_in_any_column(cell):
    scores = np.zeros((4, 4))
    scores[cell] = np.nan
    queries = make_pairs((0, 1), (2, 1), (3, 0))
    known = Known.build(make_pairs((2, 1), (2, 3)), 4, 4)
    with pytest.raises(InputError, match=r"model 'm' gives NaN scores for drug → treats.*head 2"):
        rank(lookup_scorer(scores, "m"), TREATS, queries, known)


def test_a_score_matrix_without_all_tails_is_an_error():
    queries = make_pairs((0, 1))
    known = Known.build(make_pairs((0, 1), (0, 3)), 1, 4)
    with pytest.raises(InputError, match=r"shape \(1, 3\).*local id 3"):
        rank(lambda triple_type, heads: jnp.zeros((len(heads), 3)), TREATS, queries, known, block=1)


def test_without_queries_there_are_no_ranks():
    ranks = rank(
        lookup_scorer(np.zeros((1, 1))), TREATS, make_pairs(), Known.build(make_pairs(), 1, 1)
    )
    assert len(ranks) == 0


def test_list_metrics_match_a_full_sort():
    rng = np.random.default_rng(2)
    scores = rng.permutation(30 * 90).reshape(30, 90)
    facts = rng.permutation(np.argwhere(rng.random((30, 90)) < 0.2).astype(np.int32))
    train, test = facts[: len(facts) // 3], facts[len(facts) // 3 :]
    queries = make_pairs(*test)
    values = list_metrics(
        rank(lookup_scorer(scores), TREATS, queries, Known.build(make_pairs(*facts), 30, 90))
    )
    for row, head in enumerate(np.unique(queries.heads)):
        filtered, true = set(train[train[:, 0] == head, 1]), set(test[test[:, 0] == head, 1])
        listed = [t for t in np.argsort(-scores[head]) if t not in filtered]
        for k in (10, 50):
            hit = np.array([t in true for t in listed[:k]])
            discount = 1 / np.log2(np.arange(2, k + 2))
            assert values[f"recall@{k}"][row] == pytest.approx(hit.sum() / len(true))
            assert values[f"precision@{k}"][row] == pytest.approx(hit.sum() / k)
            ideal = discount[: len(true)].sum()
            assert values[f"ndcg@{k}"][row] == pytest.approx((hit * discount).sum() / ideal)


def test_list_metrics_by_hand():
    # Head 0 has two true tails: filtered ranks 1 and 3, so positions 1 and 4. Head 1: position 12.
    # Head 2: two competitors tie with its only tail, which takes the middle position, 2.
    heads = np.array([0, 0, 1, 2], np.int32)
    optimistic, pessimistic = np.array([3.0, 1, 12, 1]), np.array([3.0, 1, 12, 3])
    ranks = Ranks(heads, np.arange(4, dtype=np.int32), optimistic, pessimistic, np.full(4, 90))
    values = list_metrics(ranks)
    assert values["recall@10"].tolist() == [1, 0, 1]
    assert values["recall@50"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(values["precision@10"], [2 / 10, 0, 1 / 10])
    np.testing.assert_allclose(values["precision@50"], [2 / 50, 1 / 50, 1 / 50])
    first = (1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(values["ndcg@10"], [first, 0, 1 / np.log2(3)])
    np.testing.assert_allclose(values["ndcg@50"], [first, 1 / np.log2(13), 1 / np.log2(3)])


def test_chance_mrr_by_hand():
    # A single candidate has rank 1; with three the mean of 1, 1/2 and 1/3 is 11/18.
    assert chance_mrr(np.array([1, 3])) == pytest.approx((1 + 11 / 18) / 2)


def test_agrees_with_pykeen():
    pytest.importorskip("pykeen", exc_type=ImportError)
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pykeen.evaluation import RankBasedEvaluator

        scores, queries, known = random_queries(TREATS, heads=31, tails=53, seed=3)
        evaluator = RankBasedEvaluator()
        for head, tail in zip(*queries, strict=True):
            others = known.of(np.array([head], np.int32))[1]
            row = scores[head].copy()
            row[others] = np.nan
            row[tail] = scores[head, tail]
            evaluator.process_scores_(
                torch.tensor([[head, 0, tail]]),
                "tail",
                torch.tensor(row[None]),
                torch.tensor([[scores[head, tail]]]),
            )
        results = evaluator.finalize()
        names = {
            "mrr": "inverse_harmonic_mean_rank",
            "hits@1": "hits_at_1",
            "hits@3": "hits_at_3",
            "hits@10": "hits_at_10",
            "mean_rank": "arithmetic_mean_rank",
            "amri": "adjusted_arithmetic_mean_rank_index",
            "adjusted_mrr": "adjusted_inverse_harmonic_mean_rank",
        }
        expected = {name: results.get_metric(f"tail.realistic.{n}") for name, n in names.items()}
    values = metrics(rank(lookup_scorer(scores), TREATS, queries, known))
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def make_ranks(heads, ranks, candidates=100):
    r = np.asarray(ranks, float)
    heads = np.asarray(heads, np.int32)
    return Ranks(heads, np.arange(len(r), dtype=np.int32), r, r, np.full(len(r), candidates))


def test_degree_bands():
    ranks = make_ranks([0, 0, 0, 1, 2], [1, 2, 4, 5, 10])
    bands = mrr_by_degree(ranks, np.array([0, 4, 1, 100, 99]))
    assert bands["0"] == (1, 1)
    assert bands["1-4"] == (2, pytest.approx(0.375))
    assert bands["5-19"][0] == 0
    assert np.isnan(bands["5-19"][1])
    assert bands["20-99"] == (1, pytest.approx(0.1))
    assert bands["100+"] == (1, pytest.approx(0.2))


def test_pooling_keeps_heads_of_different_triple_types_apart():
    pooled = pool([make_ranks([4, 4, 9], [1, 1, 4]), make_ranks([4], [2])])
    assert pooled.heads.tolist() == [0, 0, 1, 2]
    assert metrics(pooled)["mrr"] == pytest.approx((1 + 1 + 1 / 4 + 1 / 2) / 4)
    assert metrics(pooled)["mrr_by_head"] == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)


def test_intervals_treat_the_queries_of_a_head_as_one_cluster():
    rng = np.random.default_rng(4)
    r = rng.integers(1, 9, 60)
    once = bootstrap_mrr([make_ranks(np.arange(60), r)], "a")
    repeated = bootstrap_mrr([make_ranks(np.repeat(np.arange(60), 25), np.repeat(r, 25))], "a")
    np.testing.assert_allclose(once, repeated)
    assert once.std() == pytest.approx(np.std(1 / r) / np.sqrt(60), rel=0.1)
    low, high = confidence_interval(once[:, 0])
    assert low < np.mean(1 / r) < high
    assert np.mean((once < low) | (once > high)) == pytest.approx(0.05, abs=0.005)
    assert (bootstrap_mrr([make_ranks(np.arange(60), r)], "a") == once).all()
    assert (bootstrap_mrr([make_ranks(np.arange(60), r)], "b") != once).any()
    assert (bootstrap_mrr([make_ranks(np.arange(60), r)], "a", seed=1) != once).any()


def test_a_resampled_mrr_weights_heads_by_their_queries():
    # A draw of these two heads is one of three mixtures: a a, a b, b b.
    draws = bootstrap_mrr([make_ranks([0, 0, 0, 1], [1, 1, 1, 2])], "a")
    assert set(np.round(draws[:, 0], 6)) == {1.0, 0.875, 0.5}
    assert np.mean(draws == 0.875) == pytest.approx(0.5, abs=0.05)


def test_paired_differences_are_significant_where_intervals_overlap():
    rng = np.random.default_rng(5)
    r = rng.integers(1, 50, 200)
    better = np.where(rng.random(200) < 0.3, np.maximum(r - 1, 1), r)
    draws = bootstrap_mrr([make_ranks(np.arange(200), x) for x in (r, better, r)], "a")
    assert confidence_interval(draws[:, 0])[1] > confidence_interval(draws[:, 1])[0]
    assert paired_p_value(draws[:, 1] - draws[:, 0]) == pytest.approx(2 / 1001)
    assert paired_p_value(draws[:, 0] - draws[:, 1]) == pytest.approx(2 / 1001)
    assert paired_p_value(draws[:, 0] - draws[:, 2]) == 1
    noise = np.random.default_rng(6).normal(size=1000)
    assert paired_p_value(noise) > 0.5


def test_models_with_different_queries_are_refused():
    ranks = make_ranks([0, 1], [1, 1])
    other_head = make_ranks([0, 2], [1, 1])
    other_tail = replace(ranks, tails=np.array([0, 5], np.int32))
    for other in (other_head, other_tail):
        with pytest.raises(InputError, match="on a answered different queries"):
            bootstrap_mrr([ranks, other], "a")
