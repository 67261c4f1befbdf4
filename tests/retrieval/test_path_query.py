"""Path questions against a dense float64 reference, and their texts."""

import json

import numpy as np
import pytest
from scipy.special import softmax

import bridge_jax
from bridge_jax import retrieve
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.retrieval import path_query

FIRST, SECOND = TripleType("a", "r", "b"), TripleType("b", "s", "c")
PROTEIN, FUNCTION = "gene/protein", "molecular_function"


class RandomScorer:
    """Fixed random scores for each triple type."""

    def __init__(self, sizes):
        rng = np.random.default_rng(0)
        self.scores = {
            t: (3 * rng.normal(size=(sizes[t.head], sizes[t.tail]))).astype(np.float32)
            for t in (FIRST, SECOND, TripleType("c", "t", "a"))
        }

    def __call__(self, triple_type, heads):
        return self.scores[triple_type][heads]

    def score_embeddings(self, triple_type, x):
        return x @ self.scores[triple_type]


@pytest.mark.parametrize("num_intermediate", [1, 7, 150])
def test_two_steps_are_the_sum_over_the_intermediate_nodes(num_intermediate):
    scorer = RandomScorer({"a": 4, "b": 150, "c": 30})
    found = path_query.compose(scorer, scorer(FIRST, [2])[0], [FIRST, SECOND], num_intermediate)
    first = softmax(scorer.scores[FIRST][2].astype(np.float64))
    second = softmax(scorer.scores[SECOND].astype(np.float64), axis=1)
    kept = np.argsort(-first)[:num_intermediate]
    expected = (first[kept] / first[kept].sum()) @ second[kept]
    np.testing.assert_allclose(found.probability, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.via, kept)
    np.testing.assert_allclose(found.flow.sum(axis=0), found.probability)
    np.testing.assert_allclose(found.probability.sum(), 1, rtol=1e-6)


def test_a_third_step_starts_from_the_second_and_the_start_is_left_out():
    scorer = RandomScorer({"a": 4, "b": 9, "c": 30})
    third = TripleType("c", "t", "a")
    steps = [FIRST, SECOND, third, FIRST]
    found = path_query.compose(scorer, scorer(FIRST, [2])[0], steps, 99, excluded=2)
    p = softmax(scorer.scores[FIRST][2].astype(np.float64))
    p = p @ softmax(scorer.scores[SECOND].astype(np.float64), axis=1)
    p = p @ softmax(scorer.scores[third].astype(np.float64), axis=1)
    p[2] = 0  # never over the start itself
    p = (p / p.sum()) @ softmax(scorer.scores[FIRST].astype(np.float64), axis=1)
    np.testing.assert_allclose(found.probability, p, rtol=1e-5)
    assert 2 not in found.via


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drug", "write node types joined by relations"),
        (f"{PROTEIN} -> {FUNCTION}", "write node types joined by relations"),
        (f"{PROTEIN} -[x]-> {FUNCTION}", "relation 'x' is not in this graph"),
        (f"{PROTEIN} -[]-> function", "did you mean 'molecular_function'"),
        (f"-[]-> {FUNCTION}", "write node types joined by relations"),
    ],
)
def test_a_text_that_is_no_path_is_refused(trained, text, message):
    bridge = bridge_jax.load(trained)
    with pytest.raises(InputError, match=message):
        path_query.parse_path(text, bridge.triple_type)


def test_a_run_answers_with_the_nodes_in_between(trained):
    bridge = bridge_jax.load(trained)
    text = f"{FUNCTION} -[interacts with]-> {PROTEIN} -[]-> cellular_component"
    steps = path_query.parse_path(text, bridge.triple_type)
    assert [s.relation for s in steps] == ["interacts with"] * 2
    answers = path_query.answer_path(bridge.retriever, steps, head=0, k=6)
    index = bridge.retriever.node_index(FUNCTION)
    probabilities = [a.probability for a in answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [a.rank for a in answers] == [1, 2, 3, 4, 5, 6]
    proteins = set(bridge.experiment.tables[PROTEIN].ids)
    for answer in answers:
        assert answer.query == index.ids[0]
        assert {node for node, _, _ in answer.via} <= proteins
        shares = [share for _, _, share in answer.via]
        assert 0 < sum(shares) <= 1 + 1e-9
        assert shares == sorted(shares, reverse=True)
    lines = path_query.as_text(answers, index).splitlines()
    assert lines[0].startswith(index.ids[0])
    assert "over" in lines[1]
    x = np.asarray(bridge.experiment.tables[FUNCTION].stored[:1], np.float32)
    assert path_query.answer_path(bridge.retriever, steps, x=x, k=3)[0].query == "embedding 0"
    for wrong in ({"k": 0}, {"num_intermediate": 0}):
        with pytest.raises(InputError, match="must be at least 1"):
            path_query.answer_path(bridge.retriever, steps, head=0, **wrong)
    with pytest.raises(InputError, match="give --relation and --target"):
        path_query.answer_path(bridge.retriever, steps[:1], head=0)


def test_the_command_answers_a_path(trained, capsys, tmp_path):
    path = f"{FUNCTION} -[]-> {PROTEIN} -[]-> cellular_component"
    node = bridge_jax.load(trained).experiment.tables[FUNCTION].ids[0]
    command = ["--workdir", str(trained), "--path", path, "--id", node, "--k", "3"]
    assert retrieve.main(command) == 0
    assert capsys.readouterr().out.startswith(node)
    assert retrieve.main([*command, "--output", str(tmp_path / "a.json")]) == 0
    records = json.loads((tmp_path / "a.json").read_text())
    assert [r["rank"] for r in records] == [1, 2, 3]
    assert all(r["query"] == node and r["via"] for r in records)
    for wrong, message in (
        (["--source", PROTEIN], "cannot be given beside --source"),
        (["--explain"], "cannot be given beside --explain"),
        (["--output", "a.csv"], "not into a.csv"),
    ):
        with pytest.raises(InputError, match=message):
            retrieve.main([*command, *wrong])
    with pytest.raises(InputError, match="with --source, or a --path"):
        retrieve.main(["--workdir", str(trained), "--id", node])
