"""Baselines: properties that all share, and each against its dense definition."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bridge_jax.data.embedding_tables import l2_normalise
from bridge_jax.data.graph import Pairs, TripleType, known_positives
from bridge_jax.data.manifest import SPLITS
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.baselines.head_knn import HeadKNN
from bridge_jax.evaluation.baselines.hub import Hub
from bridge_jax.evaluation.baselines.popularity import Popularity
from bridge_jax.evaluation.baselines.random import Random
from bridge_jax.evaluation.baselines.ridge import PENALTIES, Ridge, fit_ridge
from bridge_jax.evaluation.baselines.shuffled import Shuffled
from bridge_jax.evaluation.baselines.tail_knn import TailKNN
from bridge_jax.evaluation.ranking import rank
from bridge_jax.evaluation.tuning import KNN_TEMPERATURES, transform_tables
from bridge_jax.models.knn import EMBEDDING_SPACES, NUM_NEIGHBOURS
from tests.helpers.planted_graph import (
    NUM_DRUGS,
    NUM_PROTEINS,
    PPI,
    TARGET,
    all_heads,
    make_facts,
    planted_graph,
)


@pytest.fixture(scope="module", params=["inductive", "transductive"])
def data(request):
    """Arguments of a baseline: graph, tables and training pairs."""
    graph, tables = planted_graph(request.param)
    return graph, tables, graph.pairs(["train"])


def mrr(scorer, graph, triple_type, split="test"):
    known = known_positives(graph, SPLITS[: SPLITS.index(split) + 1])[triple_type]
    queries = graph.queries(split)[triple_type]
    return np.mean(1 / rank(scorer, triple_type, queries, known).realistic)


@pytest.fixture(scope="module", params=BASELINES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def scorer(name, data):
    return BASELINES[name](*data)


class TestEveryBaseline:
    """What every member of `BASELINES` must fulfil."""

    def test_name_is_the_registry_key(self, name, scorer):
        assert scorer.name == name

    def test_scores_are_finite_and_cover_every_tail(self, scorer, data):
        graph = data[0]
        for triple_type in graph.triple_types:
            heads = all_heads(triple_type)
            scores = np.asarray(scorer(triple_type, heads))
            assert scores.shape == (len(heads), graph.counts[graph.type_id(triple_type.tail)])
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()

    def test_scores_are_deterministic(self, name, scorer, data):
        again = BASELINES[name](*data)
        for triple_type in data[0].triple_types:
            heads = all_heads(triple_type)
            expected = np.asarray(scorer(triple_type, heads))
            np.testing.assert_array_equal(scorer(triple_type, heads), expected)
            np.testing.assert_array_equal(again(triple_type, heads), expected)

    def test_scores_do_not_depend_on_the_block(self, scorer, data):
        for triple_type in data[0].triple_types:
            scores = np.asarray(scorer(triple_type, all_heads(triple_type)))
            for rows in ([7], [3, 3, 0], [50, 2, 41]):
                block = scorer(triple_type, np.array(rows, np.int32))
                np.testing.assert_allclose(block, scores[rows], rtol=1e-5, atol=1e-7)

    def test_unseen_heads_are_scored(self, name):
        graph, tables = planted_graph("inductive")
        train = graph.pairs(["train"])
        unseen = np.setdiff1d(all_heads(TARGET), train[TARGET].heads).astype(np.int32)
        scores = np.asarray(BASELINES[name](graph, tables, train)(TARGET, unseen))
        assert len(unseen) > 10
        assert np.isfinite(scores).all()
        assert (np.ptp(scores, axis=1) > 0).all()  # tails get different scores

    def test_test_facts_are_not_used(self, name):
        graph, tables = planted_graph()
        other = make_facts([0, 1], [0, 0], [NUM_DRUGS, NUM_DRUGS + 1])
        changed = replace(graph, facts={**graph.facts, "test": other})
        scorers = [BASELINES[name](g, tables, g.pairs(["train"])) for g in (graph, changed)]
        for triple_type in (TARGET, PPI):
            a, b = (np.asarray(s(triple_type, all_heads(triple_type))) for s in scorers)
            np.testing.assert_array_equal(a, b)


def test_random_scores_depend_on_seed_triple_type_and_head(data):
    a = np.asarray(Random(*data)(TARGET, all_heads(TARGET)))
    assert (a == Random(*data)(TARGET, all_heads(TARGET))).all()
    assert np.mean(a == Random(*data, seed=1)(TARGET, all_heads(TARGET))) < 0.01
    b = np.asarray(Random(*data)(PPI, all_heads(PPI)))
    assert np.mean(a[:NUM_PROTEINS] == b) < 0.01
    assert np.mean(a[0] == a[1]) < 0.01
    quantiles = [0, 0.25, 0.5, 0.75, 1]
    assert np.quantile(a, quantiles) == pytest.approx(quantiles, abs=0.03)


def test_popularity_counts_training_facts(data):
    train = data[2]
    scores = np.asarray(Popularity(*data)(TARGET, np.array([5, 6], np.int32)))
    counts = [int((train[TARGET].tails == t).sum()) for t in range(NUM_PROTEINS)]
    np.testing.assert_allclose(scores, np.log1p([counts, counts]), rtol=1e-6)
    assert max(counts) > 3


def test_ridge_solves_the_problem_it_states(data):
    graph, tables, train = data
    ridge = Ridge(*data)
    x = transform_tables(graph, tables, "standardise")
    y = l2_normalise(x["protein"])
    heads = np.unique(train[TARGET].heads)
    mean = np.stack([y[train[TARGET].tails[train[TARGET].heads == h]].mean(0) for h in heads])
    # Least squares with the penalty as further rows, in which the bias is zero.
    penalty = np.sqrt(ridge.penalties[TARGET] * len(heads)) * np.eye(12, 13)
    left = np.concatenate([np.c_[x["drug"][heads], np.ones(len(heads))], penalty])
    right = np.concatenate([mean, np.zeros((12, 8))])
    weight = np.linalg.lstsq(left, right, rcond=None)[0]
    expected = np.c_[x["drug"], np.ones(NUM_DRUGS)] @ weight @ y.T
    np.testing.assert_allclose(ridge(TARGET, all_heads(TARGET)), expected, rtol=1e-3, atol=1e-4)


def test_ridge_selects_the_penalty_that_is_best_on_validation():
    graph, tables = planted_graph()
    train = graph.pairs(["train"])
    selected = mrr(Ridge(graph, tables, train), graph, TARGET, "validation")
    mrr_by_penalty = {
        penalty: mrr(Ridge(graph, tables, train, penalties=(penalty,)), graph, TARGET, "validation")
        for penalty in PENALTIES
    }
    assert selected == max(mrr_by_penalty.values()) > min(mrr_by_penalty.values())


def dense_head_knn(graph, tables, train, triple_type, space, temperature):
    """The definition of `HeadKNN`, one head and one neighbour at a time."""
    x = transform_tables(graph, tables, EMBEDDING_SPACES[space])[triple_type.head]
    x = l2_normalise(x).astype(np.float64)
    pairs, num_tails = train[triple_type], graph.counts[graph.type_id(triple_type.tail)]
    log_counts = np.log1p(np.bincount(pairs.tails, minlength=num_tails))
    rows = []
    for head in range(len(x)):
        others = [h for h in np.unique(pairs.heads) if h != head]
        neighbours = sorted(others, key=lambda h: -(x[h] @ x[head]))[:NUM_NEIGHBOURS]
        weight = np.exp([x[h] @ x[head] / temperature for h in neighbours])
        scores = 1e-6 * log_counts
        for h, w in zip(neighbours, weight / weight.sum(), strict=True):
            scores[pairs.tails[pairs.heads == h]] += w
        rows.append(scores)
    return np.array(rows)


@pytest.mark.parametrize("triple_type", [TARGET, PPI])
def test_head_knn_matches_its_definition(data, triple_type):
    head_knn = HeadKNN(*data)
    for setting in (("standardised", 0.03), ("whitened", 0.25)):
        head_knn.settings[triple_type] = setting
        scores = head_knn(triple_type, all_heads(triple_type))
        expected = dense_head_knn(*data, triple_type, *setting)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-7)


def dense_tail_knn(graph, tables, train, triple_type, space, temperature):
    """The votes of `TailKNN` by definition, one head and one pair of tails at a time."""
    y = transform_tables(graph, tables, EMBEDDING_SPACES[space])[triple_type.tail]
    y = l2_normalise(y).astype(np.float64)
    pairs = train[triple_type]
    votes = np.zeros((graph.counts[graph.type_id(triple_type.head)], len(y)))
    for tail in range(len(y)):
        others = [t for t in np.unique(pairs.tails) if t != tail]
        neighbours = sorted(others, key=lambda t: -(y[t] @ y[tail]))[:NUM_NEIGHBOURS]
        weight = np.exp([y[t] @ y[tail] / temperature for t in neighbours])
        for t, w in zip(neighbours, weight / weight.sum(), strict=True):
            votes[pairs.heads[pairs.tails == t], tail] += w
    return votes


@pytest.mark.parametrize("triple_type", [TARGET, PPI])
def test_tail_knn_matches_its_definition(data, triple_type):
    heads, train = all_heads(triple_type), data[2]
    for setting in (("standardised", 0.03), ("whitened", 0.25)):
        tail_knn = TailKNN(*data)
        tail_knn.settings[triple_type] = setting
        votes = dense_tail_knn(*data, triple_type, *setting)
        np.testing.assert_allclose(tail_knn.votes(triple_type, heads), votes, rtol=1e-3, atol=1e-7)
        log_counts = np.log1p(np.bincount(train[triple_type].tails, minlength=votes.shape[1]))
        expected = votes + 1e-6 * log_counts
        np.testing.assert_allclose(tail_knn(triple_type, heads), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("baseline", [HeadKNN, TailKNN])
def test_knn_selects_the_setting_that_is_best_on_validation(baseline):
    # `TailKNN` needs heads with training facts.
    graph, tables = planted_graph("transductive" if baseline is TailKNN else "inductive")
    train = graph.pairs(["train"])
    selected = baseline(graph, tables, train).settings[TARGET]
    mrr_by_setting = {}
    for setting in product(EMBEDDING_SPACES, KNN_TEMPERATURES):
        scorer = baseline(graph, tables, train)
        scorer.settings[TARGET] = setting
        mrr_by_setting[setting] = mrr(scorer, graph, TARGET, "validation")
    values = mrr_by_setting.values()
    assert mrr_by_setting[selected] == max(values) > min(values)


def test_tail_knn_scores_an_unseen_head_by_popularity():
    graph, tables = planted_graph()
    train = graph.pairs(["train"])
    unseen = np.setdiff1d(graph.queries("test")[TARGET].heads, train[TARGET].heads)
    scores = np.asarray(TailKNN(graph, tables, train)(TARGET, unseen))
    counts = np.bincount(train[TARGET].tails, minlength=scores.shape[1])
    assert len(unseen)
    assert np.ptp(counts)
    assert (np.argsort(-scores, kind="stable") == np.argsort(-counts, kind="stable")).all()


def test_fitted_baselines_beat_chance_and_ridge_finds_the_planted_map():
    graph, tables = planted_graph()
    train = graph.pairs(["train"])
    values = {name: mrr(b(graph, tables, train), graph, TARGET) for name, b in BASELINES.items()}
    assert values["random"] < values["head_knn"] < values["ridge"]
    assert values["ridge"] > 0.6


@pytest.mark.parametrize("name", ["popularity", "ridge", "head_knn", "tail_knn"])
def test_without_training_facts_all_tails_tie(name):
    graph, tables = planted_graph()
    train = graph.pairs(["train"])
    train[TARGET] = Pairs(*(ids[:0] for ids in train[TARGET]))
    scores = np.asarray(BASELINES[name](graph, tables, train)(TARGET, all_heads(TARGET)))
    assert (scores == scores[0, 0]).all()


def test_the_first_setting_is_used_without_validation_queries():
    graph, tables = planted_graph()
    graph = replace(graph, facts={"train": graph.facts["train"]})
    train = graph.pairs(["train"])
    assert Ridge(graph, tables, train).penalties[TARGET] == PENALTIES[0]
    first = next(iter(EMBEDDING_SPACES)), KNN_TEMPERATURES[0]
    assert HeadKNN(graph, tables, train).settings[TARGET] == first
    assert TailKNN(graph, tables, train).settings[TARGET] == first


def test_shuffled_is_ridge_on_permuted_embeddings(data):
    graph, tables, train = data
    rng = np.random.default_rng(5)
    permuted = {name: x[rng.permutation(len(x))] for name, x in tables.items()}
    expected = Ridge(graph, permuted, train)(TARGET, all_heads(TARGET))
    shuffled = Shuffled(graph, tables, train, seed=5)
    np.testing.assert_array_equal(shuffled(TARGET, all_heads(TARGET)), expected)
    ridge = mrr(Ridge(graph, tables, train), graph, TARGET)
    assert mrr(Shuffled(graph, tables, train), graph, TARGET) < 0.6 * ridge


def test_hub_maps_every_type_to_the_one_with_most_facts(data):
    graph, tables, train = data
    hub = Hub(*data)
    assert hub.hub == "protein"
    x = transform_tables(graph, tables, "standardise")
    protein = l2_normalise(x["protein"])
    maps = fit_ridge(x["drug"], protein, train[TARGET], PENALTIES)
    weight, bias = maps[hub.penalties["drug"]]
    drug = l2_normalise(x["drug"] @ np.asarray(weight) + np.asarray(bias))
    np.testing.assert_allclose(hub(TARGET, all_heads(TARGET)), drug @ protein.T, atol=1e-5)
    np.testing.assert_allclose(hub(PPI, all_heads(PPI)), protein @ protein.T, atol=1e-5)
    # Drugs are never paired while fitting; they are compared through the proteins.
    similar = TripleType("drug", "similar to", "drug")
    np.testing.assert_allclose(hub(similar, all_heads(similar)), drug @ drug.T, atol=1e-5)


def test_hub_scores_a_type_without_facts_zero(data):
    graph, tables, train = data
    counts = (NUM_DRUGS, NUM_PROTEINS, 2)
    larger = replace(graph, node_types=("drug", "protein", "disease"), counts=counts)
    hub = Hub(larger, {**tables, "disease": np.eye(2, 3, dtype=np.float32)}, train)
    triple_type = TripleType("disease", "associated with", "protein")
    assert not np.asarray(hub(triple_type, np.arange(2, dtype=np.int32))).any()
    assert np.asarray(hub(TARGET, np.arange(2, dtype=np.int32))).any()
