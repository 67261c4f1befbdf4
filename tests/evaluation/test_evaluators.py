"""Evaluators: each against a case worked by hand or by the definition, one pair at a time."""

import json
from dataclasses import replace
from math import log

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bridge_jax import evaluate
from bridge_jax.data.graph import Facts, Known, Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.phenotype import Phenotype
from bridge_jax.evaluation.evaluators.ppi import (
    Interactions,
    classify,
    logistic,
    micro_f1,
    pair_features,
    swapped,
    walk,
)
from bridge_jax.evaluation.evaluators.relation import UnseenRelation
from bridge_jax.evaluation.evaluators.representations import read
from bridge_jax.evaluation.evaluators.retrieval import Retrieval, rank_all
from bridge_jax.evaluation.evaluators.semantic_similarity import (
    PARENT_CHILD,
    SemanticSimilarity,
    ancestors,
    annotation_matrix,
    best_match,
    common_information,
    information,
    manhattan_similarity,
)
from bridge_jax.evaluation.ranking import metrics, rank
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.training import hooks

PROTEIN, FUNCTION, PLACE = "gene/protein", "molecular_function", "cellular_component"
TO_FUNCTION = TripleType(PROTEIN, "interacts with", FUNCTION)
TO_PLACE = TripleType(PROTEIN, "interacts with", PLACE)


@pytest.fixture(scope="module")
def opened(trained):
    return workdirs.load_run(trained)


def pairs(*rows):
    heads, tails = np.array(rows, np.int32).reshape(-1, 2).T
    return Pairs(heads, tails)


# An ontology of five terms: 0 above 1 and 2, both above 3; 4 on its own.
PARENTS = pairs((0, 1), (0, 2), (1, 3), (2, 3))
# Proteins 0..3 and their terms.
ANNOTATED = pairs((0, 3), (1, 1), (1, 4), (2, 2), (3, 4))


def test_ancestors_by_hand():
    above = ancestors(PARENTS, 5)
    rows = [np.flatnonzero(row).tolist() for row in above]
    assert rows == [[0], [0, 1], [0, 2], [0, 1, 2, 3], [4]]
    with pytest.raises(InputError, match="form a cycle"):
        ancestors(pairs((0, 1), (1, 2), (2, 0)), 3)


def test_information_and_similarity_by_hand():
    above = ancestors(PARENTS, 5)
    annotated = annotation_matrix(ANNOTATED, (4, 5))
    content = information(annotated, above)
    # Of 4 proteins: 0 is above the terms of 3, 1 and 2 of 2 each, 3 of 1, 4 of 2.
    np.testing.assert_allclose(content, [log(4 / 3), log(2), log(2), log(4), log(2)], rtol=1e-6)
    common = common_information(above, content)
    assert common[1, 2] == pytest.approx(log(4 / 3))  # only the root is above both
    assert common[1, 3] == pytest.approx(log(2))
    assert common[3, 3] == pytest.approx(log(4))
    assert common[1, 4] == 0

    resnik = best_match(annotated, above, content, "Resnik")
    lin = best_match(annotated, above, content, "Lin")
    # Proteins 0 {3} and 1 {1, 4}: 3 matches 1 best; 1 matches 3; 4 matches nothing.
    assert resnik[0] == pytest.approx((log(2) + (log(2) + 0) / 2) / 2)
    alike = 2 * log(2) / (log(4) + log(2))
    assert lin[0] == pytest.approx((alike + (alike + 0) / 2) / 2)
    # 0 {3} and 2 {2}; 1 {1, 4} and 3 {4}: one way 4 with 4 alone, the other its half.
    assert lin[1] == pytest.approx(alike)
    assert lin[4] == pytest.approx((1 / 2 + 1) / 2)
    assert lin[5] == resnik[5] == 0  # 2 {2} and 3 {4}


def test_manhattan_similarity_by_hand():
    x = np.array([[1.0, -1.0], [2.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_allclose(manhattan_similarity(x), [1 - 2 / 4, 1 - 4 / 4, 1 - 4 / 4])


def test_semantic_similarity_is_its_definition(opened):
    experiment = opened.experiment
    asked = SemanticSimilarity(experiment, "test")
    found = dict(asked(opened.scorer))
    assert set(found) == {
        f"{kind.tail} {measure}: {vectors}"
        for kind in (TO_FUNCTION, TO_PLACE)
        for measure in ("Lin", "Resnik")
        for vectors in ("raw", "projected", "bridged")
    }
    held = np.flatnonzero(experiment.graph.heldout_mask(PROTEIN, ["test"]))
    annotated = np.unique(experiment.graph.pairs()[TO_FUNCTION].heads)
    nodes = asked.nodes[TO_FUNCTION]
    np.testing.assert_array_equal(nodes, np.intersect1d(held, annotated))
    x = experiment.tables[PROTEIN].stored[nodes].astype(np.float64)
    query = opened.scorer.queries(TO_FUNCTION, read(experiment, PROTEIN, x.astype(np.float32)))
    for vectors, v in (("raw", x), ("bridged", np.asarray(query, np.float64))):
        close = [
            1 - np.abs(v[i] - v[j]).sum() / (np.abs(v[i]).sum() + np.abs(v[j]).sum())
            for i in range(len(v))
            for j in range(i + 1, len(v))
        ]
        expected = scipy.stats.spearmanr(asked.truth[TO_FUNCTION, "Lin"], close).statistic
        assert found[f"{FUNCTION} Lin: {vectors}"] == pytest.approx(expected, abs=1e-6)


def test_pairs_of_a_walk_by_hand():
    # A tree below 0, and further pairs that no walk from 0 reaches: 20 in all, 4 to be tested.
    tree = [[0, 1], [1, 2], [1, 3], [2, 4], [2, 5], [3, 6], [3, 7]]
    pairs = np.array(tree + [[20, i] for i in range(21, 34)])
    rng = np.random.default_rng(0)
    # Both take the pairs of 0 and 1; then breadth first those of 2, depth first those of 3.
    assert np.flatnonzero(walk(pairs, "BFS", rng)).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(walk(pairs, "DFS", rng)).tolist() == [0, 1, 2, 5, 6]
    assert walk(pairs, "random", rng).sum() == 4
    # Where a walk ends, another one starts.
    islands = np.array([[i, i + 50] for i in range(10)])
    assert np.flatnonzero(walk(islands, "DFS", rng)).tolist() == [0, 1]


def test_swapped_pairs_are_no_facts_of_the_same_proteins():
    rng = np.random.default_rng(1)
    true = np.unique(np.sort(rng.integers(0, 40, (150, 2)), axis=1), axis=0)
    true = true[true[:, 0] != true[:, 1]].astype(np.int32)
    both = Pairs(*np.concatenate([true, true[:, ::-1]]).T)
    false = swapped(true, [Known.build(both, 40, 40)], rng)
    np.testing.assert_array_equal(false[:, 0], true[:, 0])
    facts = {tuple(sorted(p)) for p in true.tolist()}
    assert not facts & {tuple(sorted(p)) for p in false.tolist()}
    assert set(false[:, 1].tolist()) <= set(true.ravel().tolist())


def test_micro_f1_counts_labels_by_hand():
    truth = np.array([[1, 0], [1, 1], [0, 0]], bool)
    predicted = np.array([[1, 1], [1, 1], [0, 1]], bool)
    assert micro_f1(truth, predicted) == pytest.approx(2 * 3 / (3 + 5))
    assert micro_f1(truth, truth) == 1
    assert micro_f1(truth, ~truth) == 0
    assert micro_f1(truth[2:], truth[2:]) == 0


def test_the_logistic_regression_is_at_its_minimum():
    rng = np.random.default_rng(2)
    x = np.c_[rng.normal(size=(80, 3)), np.ones(80)]
    label = rng.random(80) < 1 / (1 + np.exp(-x @ [1.0, -2.0, 0.5, 0.3]))

    def cost(w):
        z = x @ w
        return np.sum(np.log1p(np.exp(-np.where(label, z, -z)))) + 2.0 * (w[:3] ** 2).sum() / 2

    best = logistic(x, label, 2.0)
    for i in range(4):
        for step in (-1e-3, 1e-3):
            assert cost(best) < cost(best + step * np.eye(4)[i])


def test_a_classifier_learns_what_the_vectors_say_and_no_more():
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 2, (600, 2))
    place = np.array([[5.0, 0.0], [0.0, 5.0]])
    a, b = (place[g] + rng.normal(size=(600, 2)) for g in groups.T)
    label = (groups[:, 0] == groups[:, 1])[:, None]
    test = rng.random(600) < 0.2
    assert classify(pair_features(a, b), label, test) > 0.97
    noise = rng.normal(size=(600, 4))
    assert 0.3 < classify(noise, label, test) < 0.7
    np.testing.assert_array_equal(pair_features(a, b), pair_features(b, a))


def with_facts(experiment, moved, held=()):
    """A setup whose named facts are test facts, and whose named types are held out as a whole."""
    graph = experiment.graph
    test = np.concatenate([np.zeros((0, 3), int), *moved])
    columns = (*test.T, np.ones(len(test)))
    facts = {**graph.facts, "test": Facts(*(np.asarray(c, np.int32) for c in columns))}
    nodes = np.arange(int(graph.offsets[-1]), dtype=np.int32)
    mine = np.isin(graph.types_of(nodes), [graph.type_id(t) for t in held])
    for split in ("train", "validation"):
        f = facts[split]
        touched = mine[f.head] | mine[f.tail]
        facts[split] = f[~touched]
    return replace(
        experiment, graph=replace(graph, facts=facts, heldout={"test": nodes[mine]} if held else {})
    )


def rows_of(graph, kind, asked):
    relation = np.full(len(asked.heads), graph.relation_id(kind.relation))
    starts = (graph.offsets[graph.type_id(t)] for t in (kind.head, kind.tail))
    head, tail = (a + s for a, s in zip(asked, starts, strict=True))
    return np.stack([head, relation, tail], axis=1)


def test_interactions_are_told_from_swapped_pairs(opened):
    experiment = opened.experiment
    kind = TripleType(PROTEIN, "interacts with", PROTEIN)
    with pytest.raises(InputError, match=r"has 0 test facts between two gene/protein nodes"):
        Interactions(experiment, "test")
    # Proteins interact when their raw vectors are near: something to learn.
    x = experiment.tables[PROTEIN].stored.astype(np.float32)
    x = (x - x.mean(0)) / x.std(0)
    near = np.argsort(((x[:, None] - x) ** 2).sum(-1), axis=1)[:, 1:4]
    asked = Pairs(np.repeat(np.arange(len(x)), 3), near.ravel())
    made = with_facts(experiment, [rows_of(experiment.graph, kind, asked)])
    interactions = Interactions(made, "test")
    assert interactions.labels.all()
    for how, tested in interactions.tested.items():
        assert 0.19 < tested.mean() < 0.5, how
    found = dict(interactions(opened.scorer))
    assert set(found) == {
        f"micro-F1 {how}: {v}"
        for how in ("random", "BFS", "DFS")
        for v in ("raw", "projected", "bridged")
    }
    assert found["micro-F1 random: raw"] > 0.6


def test_an_unseen_modality_is_read_as_its_proxy(opened):
    experiment = opened.experiment
    with pytest.raises(InputError, match="holds out no node type as a whole"):
        Phenotype(experiment, "test")
    graph = experiment.graph
    beside = TripleType(FUNCTION, "interacts with", PLACE)
    extra = pairs((3, 1), (3, 9), (20, 9), (41, 30))
    moved = [
        rows_of(graph, TO_PLACE, graph.pairs()[TO_PLACE]),
        rows_of(graph, beside, extra),
    ]
    made = with_facts(experiment, moved, [PLACE])
    found = dict(Phenotype(made, "test")(opened.scorer))
    head, tail = made.tables[FUNCTION], made.tables[PLACE]
    lent = read(made, FUNCTION, tail.stored.astype(np.float32))
    known = made.known[beside]

    def mrr(query, key, kind, asked):
        def score(_, heads):
            return jnp.asarray(query)[heads] @ jnp.asarray(key).T

        return metrics(rank(score, kind, asked, made.known[kind]))

    def length_one(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    assert len(known.tails) == 4
    raw = [length_one(t.stored.astype(np.float32)) for t in (head, tail)]
    assert found[f"{FUNCTION} → {PLACE} mrr: raw"] == pytest.approx(mrr(*raw, beside, extra)["mrr"])
    key = opened.scorer.keys(FUNCTION, lent)
    expected = mrr(opened.scorer.tails(FUNCTION), key, beside, extra)
    for figure in ("mrr", "recall@10", "precision@10", "ndcg@10"):
        name = f"{FUNCTION} → {PLACE} {figure}: projected as {FUNCTION}"
        assert found[name] == pytest.approx(expected[figure])
    back = TripleType(FUNCTION, "interacts with", PROTEIN)
    x = read(made, FUNCTION, head.stored.astype(np.float32))
    expected = mrr(*(opened.scorer.queries(back, v) for v in (x, lent)), beside, extra)
    way = f"as {FUNCTION}, interacts with → {PROTEIN}"
    assert found[f"{FUNCTION} → {PLACE} mrr: {way}"] == pytest.approx(expected["mrr"])
    # Proteins reach the places by their relation to functions, as in the paper.
    protein = made.tables[PROTEIN]
    x = read(made, PROTEIN, protein.stored.astype(np.float32))
    query = opened.scorer.queries(TO_FUNCTION, x)
    expected = mrr(query, key, TO_PLACE, made.graph.pairs(["test"])[TO_PLACE])
    name = f"{PROTEIN} → {PLACE} mrr: interacts with → {FUNCTION}"
    assert found[name] == pytest.approx(expected["mrr"])
    assert f"{PROTEIN} → {PLACE} mrr: raw" not in found


def test_an_unseen_relation_is_asked_by_its_name_and_by_others(opened):
    experiment = opened.experiment
    with pytest.raises(InputError, match="no triple type that test asks about and training never"):
        UnseenRelation(experiment, "test")
    graph = experiment.graph
    alone = rows_of(graph, TO_PLACE, graph.pairs()[TO_PLACE])
    with pytest.raises(InputError, match=rf"shows no other fact of {PLACE}: a bridge knows"):
        UnseenRelation(with_facts(experiment, [alone], [PLACE]), "test")
    kind = TripleType(FUNCTION, "interacts with", FUNCTION)
    asked = pairs((1, 2), (1, 60), (7, 5))
    made = with_facts(experiment, [rows_of(graph, kind, asked)])
    found = dict(UnseenRelation(made, "test")(opened.scorer))
    queries, known = made.queries["test"][kind], made.known[kind]
    assert len(queries.heads) == 6  # both ways
    functions = experiment.tables[FUNCTION]
    x = read(experiment, FUNCTION, functions.stored.astype(np.float32))
    tails = np.asarray(opened.scorer.tails(FUNCTION))
    by = {
        "projected": tails,
        "bridged": np.asarray(opened.scorer.queries(kind, x)),
        "by parent-child": np.asarray(
            opened.scorer.queries(TripleType(FUNCTION, PARENT_CHILD, FUNCTION), x)
        ),
    }
    for way, query in by.items():
        expected = metrics(
            rank(lambda _, h, q=query: jnp.asarray(q[h] @ tails.T), kind, queries, known)
        )
        for figure in ("mrr", "hits@10", "recall@50"):
            assert found[f"{kind} {figure}: {way}"] == pytest.approx(expected[figure])
    # Candidates: 80 functions less the head and its other fact.
    n = np.array([78, 78, 79, 79, 79, 79])
    chance = np.mean([np.sum(1 / np.arange(1, k + 1)) / k for k in n])
    assert found[f"{kind} mrr: chance"] == pytest.approx(chance)
    assert "raw" in {name.rpartition(": ")[2] for name in found}


def test_retrieval_is_the_table_of_the_command(opened):
    found = dict(Retrieval(opened.experiment, "test")(opened.scorer))
    ranks = rank_all(opened.scorer, opened.experiment, "test")
    each = {str(k): metrics(r)["mrr"] for k, r in ranks.items()}
    assert found["mrr"] == pytest.approx(np.mean(list(each.values())))
    assert {k: found[f"mrr: {k}"] for k in each} == pytest.approx(each)
    assert found["hits@10"] == pytest.approx(
        np.mean([metrics(r)["hits@10"] for r in ranks.values()])
    )


def test_training_and_the_command_ask_the_same(trained, opened, capsys):
    opened.experiment.config.evaluate.evaluators = ("semantic_similarity",)
    values = hooks.validate(opened.experiment, opened.params)
    opened.experiment.config.evaluate.evaluators = ()
    name = f"{FUNCTION} Lin: bridged"
    asked = dict(SemanticSimilarity(opened.experiment, "validation")(opened.scorer))
    assert values[f"semantic_similarity/{name}"] == asked[name]
    assert {"mrr", "hits@10", f"retrieval/mrr: {TO_FUNCTION}"} <= set(values)

    command = ["--workdir", str(trained), "--evaluators", "retrieval", "semantic_similarity"]
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    assert "semantic_similarity" in out
    assert "raw" in out.partition("semantic_similarity")[2].splitlines()[0]
    written = json.loads((trained / "eval/test/evaluators.json").read_text())
    expected = dict(SemanticSimilarity(opened.experiment, "test")(opened.scorer))
    assert written["semantic_similarity"] == pytest.approx(expected)
    with pytest.raises(
        InputError, match=r"evaluator 'pip' is not in this version .did you mean 'ppi'"
    ):
        evaluate.main(["--workdir", str(trained), "--evaluators", "pip"])
