"""Baselines against dense definitions of themselves, on a small planted graph."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bridge_jax.data.dataset import SPLITS
from bridge_jax.data.embedding_tables import fit_transform, transformed
from bridge_jax.data.graph import Facts, Graph, TripleType, known_positives
from bridge_jax.data.splits import split_facts
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.baselines.head_knn import NEIGHBOURS, SPACES, TEMPERATURES, HeadKNN
from bridge_jax.evaluation.baselines.hub import Hub
from bridge_jax.evaluation.baselines.popularity import Popularity
from bridge_jax.evaluation.baselines.random import Random
from bridge_jax.evaluation.baselines.ridge import STRENGTHS, Ridge, fit
from bridge_jax.evaluation.baselines.shuffled import Shuffled
from bridge_jax.evaluation.baselines.tail_knn import TailKNN
from bridge_jax.evaluation.ranking import rank
from bridge_jax.evaluation.tuning import prepared, unit, validation_queries

DRUGS, PROTEINS = 90, 60
TARGET = TripleType("drug", "target", "protein")
PPI = TripleType("protein", "ppi", "protein")


def facts(head, relation, tail):
    columns = (np.asarray(c, np.int32) for c in (head, relation, tail, np.zeros(len(head))))
    return Facts(*columns)


def world(rule="inductive", seed=0):
    """Drugs bind the proteins that a hidden linear map points at; proteins bind their like."""
    rng = np.random.default_rng(seed)
    protein = rng.normal(size=(PROTEINS, 8)).astype(np.float32)
    hidden = rng.normal(size=(DRUGS, 8))
    drug = (hidden @ rng.normal(size=(8, 12)) * 3 + 1).astype(np.float32)
    near = np.argsort(-(hidden @ unit(protein).T), axis=1)[:, :3]
    like = unit(protein) @ unit(protein).T
    a, b = np.where(np.triu(like > 0.5, 1))
    heads = np.concatenate([np.repeat(np.arange(DRUGS), 3), a + DRUGS])
    tails = np.concatenate([near.ravel(), b]) + DRUGS
    relations = np.concatenate([np.zeros(3 * DRUGS), np.ones(len(a))])
    graph = Graph(
        ("drug", "protein"),
        (DRUGS, PROTEINS),
        ("target", "ppi"),
        {"train": facts(heads, relations, tails)},
    )
    ids = [[f"d{i}" for i in range(DRUGS)], [f"p{i}" for i in range(PROTEINS)]]
    graph = split_facts(graph, ids, rule, seed=1, test=0.15, validation=0.15)
    return graph, {"drug": drug, "protein": protein}


@pytest.fixture(scope="module", params=["inductive", "transductive"])
def small(request):
    graph, tables = world(request.param)
    return graph, tables, graph.pairs(["train"])


def every(kind):
    return np.arange({"drug": DRUGS, "protein": PROTEINS}[kind.head], dtype=np.int32)


def mrr(scorer, graph, kind, split="test"):
    known = known_positives(graph, SPLITS[: SPLITS.index(split) + 1])[kind]
    return np.mean(1 / rank(scorer, kind, graph.queries(split)[kind], known).realistic)


@pytest.mark.parametrize("name", BASELINES)
def test_scores_do_not_depend_on_the_block(small, name):
    graph, tables, train = small
    scorer = BASELINES[name](graph, tables, train)
    assert scorer.name == name
    for kind in graph.triple_types:
        whole = np.asarray(scorer(kind, every(kind)))
        assert whole.shape == (len(every(kind)), graph.counts[graph.type_id(kind.tail)])
        assert whole.dtype == np.float32
        assert np.isfinite(whole).all()
        for rows in ([7], [3, 3, 0], [50, 2, 41]):
            np.testing.assert_allclose(
                scorer(kind, np.array(rows, np.int32)), whole[rows], rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_learnt_from_test_facts(name):
    graph, tables = world()
    other = facts([0, 1], [0, 0], [DRUGS, DRUGS + 1])
    changed = replace(graph, facts={**graph.facts, "test": other})
    for kind in (TARGET, PPI):
        scores = [BASELINES[name](g, tables, g.pairs(["train"])) for g in (graph, changed)]
        a, b = (np.asarray(s(kind, every(kind))) for s in scores)
        np.testing.assert_array_equal(a, b)


def test_random_scores_depend_on_seed_triple_type_and_head(small):
    graph, tables, train = small
    a = np.asarray(Random(graph, tables, train)(TARGET, every(TARGET)))
    assert (a == Random(graph, tables, train)(TARGET, every(TARGET))).all()
    assert np.mean(a == Random(graph, tables, train, seed=1)(TARGET, every(TARGET))) < 0.01
    b = np.asarray(Random(graph, tables, train)(PPI, every(PPI)))
    assert np.mean(a[:PROTEINS] == b) < 0.01
    assert np.mean(a[0] == a[1]) < 0.01
    assert np.quantile(a, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(
        [0, 0.25, 0.5, 0.75, 1], abs=0.03
    )


def test_popularity_counts_training_facts(small):
    graph, tables, train = small
    scores = np.asarray(Popularity(graph, tables, train)(TARGET, np.array([5, 6], np.int32)))
    counts = [int((train[TARGET].tails == t).sum()) for t in range(PROTEINS)]
    np.testing.assert_allclose(scores, np.log1p([counts, counts]), rtol=1e-6)
    assert max(counts) > 3


def test_ridge_solves_the_problem_it_states(small):
    graph, tables, train = small
    ridge = Ridge(graph, tables, train)
    x = prepared(graph, tables, "standardise")
    y = unit(x["protein"])
    heads = np.unique(train[TARGET].heads)
    mean = np.stack([y[train[TARGET].tails[train[TARGET].heads == h]].mean(0) for h in heads])
    strength = ridge.strengths[TARGET]
    # Least squares with the penalty as further rows, the bias free of it.
    penalty = np.sqrt(strength * len(heads)) * np.eye(12, 13)
    left = np.concatenate([np.c_[x["drug"][heads], np.ones(len(heads))], penalty])
    right = np.concatenate([mean, np.zeros((12, 8))])
    weight = np.linalg.lstsq(left, right, rcond=None)[0]
    expected = np.c_[x["drug"], np.ones(DRUGS)] @ weight @ y.T
    np.testing.assert_allclose(ridge(TARGET, every(TARGET)), expected, rtol=1e-3, atol=1e-4)


def test_ridge_takes_the_strength_that_is_best_on_validation():
    graph, tables = world()
    ridge = Ridge(graph, tables, graph.pairs(["train"]))
    chosen = mrr(ridge, graph, TARGET, "validation")
    found = {}
    for strength in STRENGTHS:
        ridge = Ridge(graph, tables, graph.pairs(["train"]), strengths=(strength,))
        found[strength] = mrr(ridge, graph, TARGET, "validation")
    assert chosen == max(found.values()) > min(found.values())


def nearest_by_hand(graph, tables, train, kind, space, temperature):
    """The definition, one head and one neighbour at a time."""
    x = prepared(graph, tables, "standardise")[kind.head]
    if space == "whitened":
        x = prepared(graph, tables, "whiten")[kind.head]
    x = unit(x).astype(np.float64)
    pairs, tails = train[kind], graph.counts[graph.type_id(kind.tail)]
    popular = np.log1p(np.bincount(pairs.tails, minlength=tails))
    out = []
    for head in range(len(x)):
        others = [h for h in np.unique(pairs.heads) if h != head]
        near = sorted(others, key=lambda h: -(x[h] @ x[head]))[:NEIGHBOURS]
        weight = np.exp([x[h] @ x[head] / temperature for h in near])
        scores = 1e-6 * popular
        for h, w in zip(near, weight / weight.sum(), strict=True):
            scores[pairs.tails[pairs.heads == h]] += w
        out.append(scores)
    return np.array(out)


@pytest.mark.parametrize("kind", [TARGET, PPI])
def test_nearest_is_its_definition(small, kind):
    graph, tables, train = small
    nearest = HeadKNN(graph, tables, train)
    for setting in (("standardised", 0.03), ("whitened", 0.25)):
        nearest.settings[kind] = setting
        expected = nearest_by_hand(graph, tables, train, kind, *setting)
        np.testing.assert_allclose(nearest(kind, every(kind)), expected, rtol=1e-3, atol=1e-7)


def similar_by_hand(graph, tables, train, kind, space, temperature):
    """The definition, one head and one pair of tails at a time."""
    y = prepared(graph, tables, "standardise" if space == "standardised" else "whiten")[kind.tail]
    y = unit(y).astype(np.float64)
    pairs = train[kind]
    scores = np.zeros((graph.counts[graph.type_id(kind.head)], len(y)))
    for tail in range(len(y)):
        others = [t for t in np.unique(pairs.tails) if t != tail]
        near = sorted(others, key=lambda t: -(y[t] @ y[tail]))[:NEIGHBOURS]
        weight = np.exp([y[t] @ y[tail] / temperature for t in near])
        for t, w in zip(near, weight / weight.sum(), strict=True):
            scores[pairs.heads[pairs.tails == t], tail] += w
    return scores


@pytest.mark.parametrize("kind", [TARGET, PPI])
def test_similar_is_its_definition(small, kind):
    graph, tables, train = small
    for setting in (("standardised", 0.03), ("whitened", 0.25)):
        similar = TailKNN(graph, tables, train)
        similar.settings[kind] = setting
        votes = similar_by_hand(graph, tables, train, kind, *setting)
        np.testing.assert_allclose(similar.votes(kind, every(kind)), votes, rtol=1e-3, atol=1e-7)
        popular = np.log1p(np.bincount(train[kind].tails, minlength=votes.shape[1]))
        expected = votes + 1e-6 * popular
        np.testing.assert_allclose(similar(kind, every(kind)), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("baseline", [HeadKNN, TailKNN])
def test_neighbours_take_the_setting_that_is_best_on_validation(baseline):
    # `Similar` has something to say of heads that training has seen.
    graph, tables = world("transductive" if baseline is TailKNN else "inductive")
    chosen = baseline(graph, tables, graph.pairs(["train"]))
    found = {}
    for setting in product(SPACES, TEMPERATURES):
        other = baseline(graph, tables, graph.pairs(["train"]))
        other.settings[TARGET] = setting
        found[setting] = mrr(other, graph, TARGET, "validation")
    assert found[chosen.settings[TARGET]] == max(found.values()) > min(found.values())


def test_similar_answers_an_unseen_head_with_popularity():
    graph, tables = world()
    train = graph.pairs(["train"])
    unseen = np.setdiff1d(graph.queries("test")[TARGET].heads, train[TARGET].heads)
    scores = np.asarray(TailKNN(graph, tables, train)(TARGET, unseen))
    popular = np.bincount(train[TARGET].tails, minlength=scores.shape[1])
    assert len(unseen)
    assert np.ptp(popular)
    assert (np.argsort(-scores, kind="stable") == np.argsort(-popular, kind="stable")).all()


def test_fitted_baselines_beat_chance_and_ridge_finds_a_linear_world():
    graph, tables = world()
    train = graph.pairs(["train"])
    found = {n: mrr(b(graph, tables, train), graph, TARGET) for n, b in BASELINES.items()}
    assert found["random"] < found["head_knn"] < found["ridge"]
    assert found["ridge"] > 0.6


@pytest.mark.parametrize("name", ["popularity", "ridge", "head_knn", "tail_knn"])
def test_a_triple_type_without_training_facts_is_all_ties(name):
    graph, tables = world()
    train = graph.pairs(["train"])
    train[TARGET] = type(train[TARGET])(*(a[:0] for a in train[TARGET]))
    scores = np.asarray(BASELINES[name](graph, tables, train)(TARGET, every(TARGET)))
    assert (scores == scores[0, 0]).all()


def test_the_first_setting_stands_where_there_is_no_validation():
    graph, tables = world()
    graph = replace(graph, facts={"train": graph.facts["train"]})
    train = graph.pairs(["train"])
    assert Ridge(graph, tables, train).strengths[TARGET] == STRENGTHS[0]
    assert HeadKNN(graph, tables, train).settings[TARGET] == ("standardised", TEMPERATURES[0])


def test_whitened_dimensions_do_not_correlate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) @ (np.eye(6) + rng.random((6, 6)))
    rows = np.arange(0, 500, 2)
    white = transformed(x, *fit_transform(x, rows, "whiten"))
    np.testing.assert_allclose(np.cov(white[rows], rowvar=False), np.eye(6), atol=1e-3)


def test_standardising_sees_training_nodes_alone():
    graph, tables = world()
    tables["drug"][~np.isin(np.arange(DRUGS), graph.train_nodes("drug"))] += 100
    seen = prepared(graph, tables, "standardise")["drug"][graph.train_nodes("drug")]
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-5)


def test_validation_sample_keeps_all_tails_of_some_heads():
    graph, _ = world()
    full = graph.queries("validation")[TARGET]
    part = validation_queries(graph, heads=4)[TARGET][0]
    heads = np.unique(part.heads)
    assert len(heads) == 4
    assert sorted(zip(*part, strict=True)) == [
        (h, t) for h, t in zip(*full, strict=True) if h in heads
    ]


def test_shuffled_is_ridge_on_vectors_of_other_nodes(small):
    graph, tables, train = small
    rng = np.random.default_rng(5)
    dealt = {name: x[rng.permutation(len(x))] for name, x in tables.items()}
    expected = Ridge(graph, dealt, train)(TARGET, every(TARGET))
    shuffled = Shuffled(graph, tables, train, seed=5)
    np.testing.assert_array_equal(shuffled(TARGET, every(TARGET)), expected)
    ridge = mrr(Ridge(graph, tables, train), graph, TARGET)
    assert mrr(Shuffled(graph, tables, train), graph, TARGET) < 0.6 * ridge


def test_central_maps_every_type_to_the_one_that_most_facts_touch(small):
    graph, tables, train = small
    central = Hub(graph, tables, train)
    assert central.centre == "protein"
    x = prepared(graph, tables, "standardise")
    protein = unit(x["protein"])
    weight, bias = fit(x["drug"], protein, train[TARGET], STRENGTHS)[central.strengths["drug"]]
    drug = unit(x["drug"] @ np.asarray(weight) + np.asarray(bias))
    np.testing.assert_allclose(central(TARGET, every(TARGET)), drug @ protein.T, atol=1e-5)
    np.testing.assert_allclose(central(PPI, every(PPI)), protein @ protein.T, atol=1e-5)
    # Two drugs are never paired while fitting: they meet among the proteins.
    like = TripleType("drug", "like", "drug")
    np.testing.assert_allclose(central(like, every(like)), drug @ drug.T, atol=1e-5)


def test_central_knows_nothing_of_a_type_without_facts(small):
    graph, tables, train = small
    bigger = replace(graph, node_types=("drug", "protein", "disease"), counts=(DRUGS, PROTEINS, 2))
    more = {**tables, "disease": np.eye(2, 3, dtype=np.float32)}
    central = Hub(bigger, more, train)
    kind = TripleType("disease", "associated with", "protein")
    assert not np.asarray(central(kind, np.arange(2, dtype=np.int32))).any()
    assert np.asarray(central(TARGET, np.arange(2, dtype=np.int32))).any()
