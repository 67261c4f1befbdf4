"""Ranks and metrics against a slow dense reference, hand-worked cases, and PyKEEN."""

import warnings
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.ranking import (
    Ranks,
    bootstrap,
    by_degree,
    chance_mrr,
    interval,
    join,
    metrics,
    rank,
    top_of_list,
    two_sided,
)

TREATS = TripleType("drug", "treats", "disease")
BINDS = TripleType("protein", "binds", "protein")


def pairs(*rows):
    heads, tails = np.array(rows, np.int32).reshape(-1, 2).T
    return Pairs(heads, tails)


def fixed(scores, name="fixed"):
    """A scorer that looks its scores up."""

    def scorer(kind, heads):
        return jnp.asarray(np.asarray(scores, np.float32)[heads])

    scorer.name = name
    return scorer


def reference(scores, kind, queries, known):
    """Ranks by the definition, one query and one candidate at a time."""
    facts = {(h, t) for h in range(len(scores)) for t in known.of(np.array([h], np.int32))[1]}
    rows = []
    for head, tail in zip(*queries, strict=True):
        rivals = [
            s
            for t, s in enumerate(scores[head].astype(np.float64))
            if t != tail and (head, t) not in facts and not (kind.head == kind.tail and t == head)
        ]
        true = float(scores[head, tail])
        above = sum(s > true for s in rivals)
        rows.append((above + 1, above + sum(s == true for s in rivals) + 1, len(rivals) + 1))
    return np.array(rows).T


def problem(kind, heads=23, tails=23, seed=0):
    """Scores with many ties, facts of several splits, and queries in no order."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (heads, tails)).astype(np.float32) / 4
    facts = np.argwhere(rng.random((heads, tails)) < 0.3).astype(np.int32)
    facts = facts[(facts[:, 0] != facts[:, 1]) | (kind.head != kind.tail)]
    known = Known.build(pairs(*facts), heads, tails)
    return scores, pairs(*rng.permutation(facts)[: len(facts) // 2]), known


@pytest.mark.parametrize("block", [1, 5, 256])
@pytest.mark.parametrize(("kind", "tails"), [(TREATS, 31), (BINDS, 23)])
def test_ranks_are_those_of_the_definition(kind, tails, block):
    scores, queries, known = problem(kind, tails=tails)
    ranks = rank(fixed(scores), kind, queries, known, block=block)
    optimistic, pessimistic, candidates = reference(scores, kind, queries, known)
    assert (ranks.heads == queries.heads).all()
    assert (ranks.tails == queries.tails).all()
    np.testing.assert_array_equal(ranks.optimistic, optimistic)
    np.testing.assert_array_equal(ranks.pessimistic, pessimistic)
    np.testing.assert_array_equal(ranks.candidates, candidates)
    assert (optimistic < pessimistic).mean() > 0.3


def test_ties_filters_and_several_positives_by_hand():
    # Head 0: tail 2 is a training fact; 0 and 3 are asked. Rivals: 1, 4, 5 with .8, .5, .1.
    scores = np.array([[0.5, 0.8, 0.9, 0.8, 0.5, 0.1], [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]])
    known = Known.build(pairs((0, 0), (0, 2), (0, 3), (1, 4)), 2, 6)
    ranks = rank(fixed(scores), TREATS, pairs((0, 0), (0, 3), (1, 4)), known)
    assert ranks.optimistic.tolist() == [2, 1, 1]
    assert ranks.pessimistic.tolist() == [3, 2, 6]
    assert ranks.realistic.tolist() == [2.5, 1.5, 3.5]
    assert ranks.candidates.tolist() == [4, 4, 6]

    found = metrics(ranks)
    assert found["mrr"] == pytest.approx((1 / 2.5 + 1 / 1.5 + 1 / 3.5) / 3)
    assert found["mrr_optimistic"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found["mrr_pessimistic"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 6) / 3)
    assert [found[f"hits@{k}"] for k in (1, 3, 10)] == pytest.approx([0, 2 / 3, 1])
    assert found["mean_rank"] == pytest.approx(2.5)
    assert found["amri"] == pytest.approx(1 - 1.5 / ((2.5 + 2.5 + 3.5) / 3 - 1))
    chance = (2 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4 + 2.45 / 6) / 3
    assert found["adjusted_mrr"] == pytest.approx((found["mrr"] - chance) / (1 - chance))
    assert found["mrr_by_head"] == pytest.approx(((1 / 2.5 + 1 / 1.5) / 2 + 1 / 3.5) / 2)


def test_a_head_is_no_candidate_for_itself():
    scores = np.array([[9.0, 1.0, 0.0], [0.0, 9.0, 1.0], [0.0, 0.0, 9.0]])
    queries = pairs((0, 1), (1, 2))
    known = Known.build(queries, 3, 3)
    ranks = rank(fixed(scores), BINDS, queries, known)
    assert ranks.realistic.tolist() == [1, 1]
    assert ranks.candidates.tolist() == [2, 2]
    across = rank(fixed(scores), TREATS, queries, known)
    assert across.realistic.tolist() == [2, 2]


def test_tails_asked_together_do_not_compete_even_where_the_index_lacks_them():
    scores = np.array([[3.0, 2.0, 1.0, 0.0]])
    ranks = rank(fixed(scores), TREATS, pairs((0, 0), (0, 2)), Known.build(pairs(), 1, 4))
    assert ranks.realistic.tolist() == [1, 2]
    assert ranks.candidates.tolist() == [3, 3]


def test_a_perfect_model_gets_one_and_a_constant_one_the_middle():
    _, queries, known = problem(TREATS, heads=40, tails=37)
    truth = np.zeros((40, 37))
    truth[queries.heads, queries.tails] = 1
    perfect = metrics(rank(fixed(truth), TREATS, queries, known))
    for name in ("mrr", "hits@1", "hits@10", "mean_rank", "amri", "adjusted_mrr", "mrr_by_head"):
        assert perfect[name] == 1, name
    assert perfect["ndcg@10"] == perfect["ndcg@50"] == perfect["recall@50"] == 1

    constant = rank(fixed(np.zeros((40, 37))), TREATS, queries, known)
    n = constant.candidates
    np.testing.assert_array_equal(constant.realistic, (n + 1) / 2)
    found = metrics(constant)
    assert found["mrr"] == pytest.approx(np.mean(2 / (n + 1)))
    assert found["mrr_optimistic"] == 1
    assert found["mrr_pessimistic"] == pytest.approx(np.mean(1 / n))
    assert found["amri"] == pytest.approx(0)


def test_chance_adjusted_metrics_are_zero_for_random_scores():
    scores = np.random.default_rng(1).random((800, 50))
    queries = pairs(*((h, t) for h in range(800) for t in (3, 7, 11)))
    found = metrics(rank(fixed(scores), TREATS, queries, Known.build(queries, 800, 50)))
    assert abs(found["amri"]) < 0.05
    assert abs(found["adjusted_mrr"]) < 0.02
    assert found["mrr"] > 0.08


def test_infinite_scores_are_ranked():
    scores = np.array([[-np.inf, -np.inf, 0.0, np.inf]])
    queries = pairs((0, 0), (0, 3))
    ranks = rank(fixed(scores), TREATS, queries, Known.build(queries, 1, 4))
    assert ranks.optimistic.tolist() == [2, 1]
    assert ranks.pessimistic.tolist() == [3, 1]


@pytest.mark.parametrize("cell", [(2, 0), (2, 1), (2, 3)])
def test_a_nan_score_is_an_error_wherever_it_stands(cell):
    scores = np.zeros((4, 4))
    scores[cell] = np.nan
    queries = pairs((0, 1), (2, 1), (3, 0))
    known = Known.build(pairs((2, 1), (2, 3)), 4, 4)
    with pytest.raises(InputError, match=r"model 'm' gives NaN scores for drug → treats.*head 2"):
        rank(fixed(scores, "m"), TREATS, queries, known)


def test_a_matrix_that_lacks_tails_is_an_error():
    queries = pairs((0, 1))
    known = Known.build(pairs((0, 1), (0, 3)), 1, 4)
    with pytest.raises(InputError, match=r"shape \(1, 3\).*local id 3"):
        rank(lambda kind, heads: jnp.zeros((len(heads), 3)), TREATS, queries, known, block=1)


def test_no_query_gives_no_rank():
    ranks = rank(fixed(np.zeros((1, 1))), TREATS, pairs(), Known.build(pairs(), 1, 1))
    assert len(ranks) == 0


def test_lists_of_heads_match_a_full_sort():
    rng = np.random.default_rng(2)
    scores = rng.permutation(30 * 90).reshape(30, 90)
    facts = rng.permutation(np.argwhere(rng.random((30, 90)) < 0.2).astype(np.int32))
    train, test = facts[: len(facts) // 3], facts[len(facts) // 3 :]
    queries = pairs(*test)
    found = top_of_list(rank(fixed(scores), TREATS, queries, Known.build(pairs(*facts), 30, 90)))
    for row, head in enumerate(np.unique(queries.heads)):
        hidden, true = set(train[train[:, 0] == head, 1]), set(test[test[:, 0] == head, 1])
        listed = [t for t in np.argsort(-scores[head]) if t not in hidden]
        for k in (10, 50):
            hit = np.array([t in true for t in listed[:k]])
            discount = 1 / np.log2(np.arange(2, k + 2))
            assert found[f"recall@{k}"][row] == pytest.approx(hit.sum() / len(true))
            assert found[f"precision@{k}"][row] == pytest.approx(hit.sum() / k)
            ideal = discount[: len(true)].sum()
            assert found[f"ndcg@{k}"][row] == pytest.approx((hit * discount).sum() / ideal)


def test_lists_of_heads_by_hand():
    # Head 0 has two true tails: filtered ranks 1 and 3, so places 1 and 4. Head 1: place 12.
    # Head 2: two rivals tie with its only tail, which stands in the middle, at 2.
    heads = np.array([0, 0, 1, 2], np.int32)
    optimistic, pessimistic = np.array([3.0, 1, 12, 1]), np.array([3.0, 1, 12, 3])
    ranks = Ranks(heads, np.arange(4, dtype=np.int32), optimistic, pessimistic, np.full(4, 90))
    found = top_of_list(ranks)
    assert found["recall@10"].tolist() == [1, 0, 1]
    assert found["recall@50"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found["precision@10"], [2 / 10, 0, 1 / 10])
    np.testing.assert_allclose(found["precision@50"], [2 / 50, 1 / 50, 1 / 50])
    first = (1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(found["ndcg@10"], [first, 0, 1 / np.log2(3)])
    np.testing.assert_allclose(found["ndcg@50"], [first, 1 / np.log2(13), 1 / np.log2(3)])


def test_chance_by_hand():
    # One candidate is always found; of three the mean of 1, 1/2 and 1/3 is 11/18.
    assert chance_mrr(np.array([1, 3])) == pytest.approx((1 + 11 / 18) / 2)


def test_agrees_with_pykeen():
    pytest.importorskip("pykeen", exc_type=ImportError)
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pykeen.evaluation import RankBasedEvaluator

        scores, queries, known = problem(TREATS, heads=31, tails=53, seed=3)
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
        theirs = evaluator.finalize()
        names = {
            "mrr": "inverse_harmonic_mean_rank",
            "hits@1": "hits_at_1",
            "hits@3": "hits_at_3",
            "hits@10": "hits_at_10",
            "mean_rank": "arithmetic_mean_rank",
            "amri": "adjusted_arithmetic_mean_rank_index",
            "adjusted_mrr": "adjusted_inverse_harmonic_mean_rank",
        }
        theirs = {name: theirs.get_metric(f"tail.realistic.{n}") for name, n in names.items()}
    ours = metrics(rank(fixed(scores), TREATS, queries, known))
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)


def ranks_of(heads, ranks, candidates=100):
    r = np.asarray(ranks, float)
    heads = np.asarray(heads, np.int32)
    return Ranks(heads, np.arange(len(r), dtype=np.int32), r, r, np.full(len(r), candidates))


def test_degree_bands():
    ranks = ranks_of([0, 0, 0, 1, 2], [1, 2, 4, 5, 10])
    bands = by_degree(ranks, np.array([0, 4, 1, 100, 99]))
    assert bands["0"] == (1, 1)
    assert bands["1-4"] == (2, pytest.approx(0.375))
    assert bands["5-19"][0] == 0
    assert np.isnan(bands["5-19"][1])
    assert bands["20-99"] == (1, pytest.approx(0.1))
    assert bands["100+"] == (1, pytest.approx(0.2))


def test_pooling_keeps_the_heads_of_two_triple_types_apart():
    pooled = join([ranks_of([4, 4, 9], [1, 1, 4]), ranks_of([4], [2])])
    assert pooled.heads.tolist() == [0, 0, 1, 2]
    assert metrics(pooled)["mrr"] == pytest.approx((1 + 1 + 1 / 4 + 1 / 2) / 4)
    assert metrics(pooled)["mrr_by_head"] == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)


def test_intervals_know_that_the_queries_of_a_head_belong_together():
    rng = np.random.default_rng(4)
    r = rng.integers(1, 9, 60)
    once = bootstrap([ranks_of(np.arange(60), r)], "a")
    repeated = bootstrap([ranks_of(np.repeat(np.arange(60), 25), np.repeat(r, 25))], "a")
    np.testing.assert_allclose(once, repeated)
    assert once.std() == pytest.approx(np.std(1 / r) / np.sqrt(60), rel=0.1)
    low, high = interval(once[:, 0])
    assert low < np.mean(1 / r) < high
    assert np.mean((once < low) | (once > high)) == pytest.approx(0.05, abs=0.005)
    assert (bootstrap([ranks_of(np.arange(60), r)], "a") == once).all()
    assert (bootstrap([ranks_of(np.arange(60), r)], "b") != once).any()
    assert (bootstrap([ranks_of(np.arange(60), r)], "a", seed=1) != once).any()


def test_a_resampled_mrr_weighs_heads_by_their_queries():
    # Any draw of these two heads is one of three mixtures: a a, a b, b b.
    draws = bootstrap([ranks_of([0, 0, 0, 1], [1, 1, 1, 2])], "a")
    assert set(np.round(draws[:, 0], 6)) == {1.0, 0.875, 0.5}
    assert np.mean(draws == 0.875) == pytest.approx(0.5, abs=0.05)


def test_paired_differences_see_what_separate_intervals_hide():
    rng = np.random.default_rng(5)
    r = rng.integers(1, 50, 200)
    better = np.where(rng.random(200) < 0.3, np.maximum(r - 1, 1), r)
    draws = bootstrap([ranks_of(np.arange(200), x) for x in (r, better, r)], "a")
    assert interval(draws[:, 0])[1] > interval(draws[:, 1])[0]
    assert two_sided(draws[:, 1] - draws[:, 0]) == pytest.approx(2 / 1001)
    assert two_sided(draws[:, 0] - draws[:, 1]) == pytest.approx(2 / 1001)
    assert two_sided(draws[:, 0] - draws[:, 2]) == 1
    noise = np.random.default_rng(6).normal(size=1000)
    assert two_sided(noise) > 0.5


def test_models_that_answered_different_queries_are_not_compared():
    ranks = ranks_of([0, 1], [1, 1])
    other_head = ranks_of([0, 2], [1, 1])
    other_tail = replace(ranks, tails=np.array([0, 5], np.int32))
    for other in (other_head, other_tail):
        with pytest.raises(InputError, match="on a answered different queries"):
            bootstrap([ranks, other], "a")
