"""The reasons of an answer, against the facts and the probabilities that they are made of."""

import dataclasses
import json

import numpy as np
import pytest

import bridge_jax
from bridge_jax import retrieve
from bridge_jax.data.graph import Facts, Graph
from bridge_jax.errors import InputError
from bridge_jax.evaluation.fusion_settings import FusionSettings, read_settings, write_settings
from bridge_jax.models.fusion import shares
from bridge_jax.models.knn import Setting
from bridge_jax.retrieval.evidence import FactIndex, Step

PROTEIN, FUNCTION = "gene/protein", "molecular_function"


@pytest.fixture(scope="module")
def bridge(trained):
    return bridge_jax.load(trained)


@pytest.fixture(scope="module")
def explained(bridge):
    """A bridge whose fusion gives weight to two spaces, and a head with training facts."""
    triple_type = bridge.triple_type(PROTEIN, target=FUNCTION)
    stored = bridge.retriever.fusion_settings
    both = dataclasses.replace(
        stored,
        spaces=("source", "tails"),
        weights=dict.fromkeys(stored.weights, (0.3, 0.2)),
        settings={
            "source": {t: Setting("standardised", 0.12) for t in stored.weights},
            "tails": {t: Setting("standardised", 0.12) for t in stored.weights},
        },
    )
    bridge = dataclasses.replace(bridge)
    bridge.retriever.fusion_settings = both
    pairs = bridge.experiment.graph.pairs(["train"])[triple_type]
    return bridge, triple_type, int(np.argmax(np.bincount(pairs.heads)))


def test_the_shares_are_those_of_the_probability(explained):
    bridge, triple_type, head = explained
    answers = bridge.retrieve(*triple_type, ids=[bridge.experiment.tables[PROTEIN].ids[head]], k=9)
    index = bridge.retriever.node_index(FUNCTION)
    tails = [index.row_of_id(a.id) for a in answers]
    reasons = bridge.retriever.explain(triple_type, tails, head=head)
    fusion = bridge.retriever.fusion
    parts = shares(fusion.evidence(triple_type, np.int32([head])), fusion.weights[triple_type])
    for answer, tail, reason in zip(answers, tails, reasons, strict=True):
        assert list(reason.shares) == ["bridge", "source", "tails"]
        np.testing.assert_allclose(sum(reason.shares.values()), 1, rtol=1e-6)
        np.testing.assert_allclose(parts[:, 0, tail].sum(), answer.probability, rtol=1e-4)
        for part, share in zip(parts[:, 0, tail], reason.shares.values(), strict=True):
            np.testing.assert_allclose(part / answer.probability, share, atol=1e-4)


def test_the_similar_nodes_vote_for_the_answer_with_facts_that_were_trained_on(explained):
    bridge, triple_type, head = explained
    pairs = bridge.experiment.graph.pairs(["train"])[triple_type]
    facts = set(zip(pairs.heads.tolist(), pairs.tails.tolist(), strict=True))
    tails = sorted({t for _, t in facts})[:20]
    found = {"source": 0, "tails": 0}
    for tail, reason in zip(
        tails, bridge.retriever.explain(triple_type, tails, head=head), strict=True
    ):
        for space, nodes in reason.similar.items():
            weights = [node.weight for node in nodes]
            assert weights == sorted(weights, reverse=True)
            assert 0 < sum(weights) <= 1 + 1e-5
            for node in nodes:
                fact_head, relation, fact_tail = node.fact
                assert relation == triple_type.relation
                assert (fact_head, fact_tail) in facts
                assert node.node == (fact_tail if space == "tails" else fact_head)
                assert fact_tail == tail if space == "source" else fact_head == head
                assert node.node != (head if space == "source" else tail)
                found[space] += 1
    assert min(found.values()) > 5


def test_paths_are_known_facts_in_either_direction():
    """a0 - b0 directly; a0 - c0 - b0 and a0 - c1 - b0, of which c1 has fewer facts."""
    node_types, counts = ("a", "b", "c"), (2, 2, 2)  # global ids 0 1 | 2 3 | 4 5
    train = [(0, 0, 4), (4, 1, 2), (2, 1, 5), (4, 0, 1), (4, 1, 3)]
    test = [(0, 0, 5), (0, 1, 2)]
    facts = {
        split: Facts(*np.int32([(h, r, t, 0) for h, r, t in rows]).T)
        for split, rows in (("train", train), ("test", test))
    }
    index = FactIndex(Graph(node_types, counts, ("r", "s"), facts))
    direct = (Step("s", "b", 0, "test"),)
    over_c1 = (Step("r", "c", 1, "test"), Step("s", "b", 0, "train"))
    over_c0 = (Step("r", "c", 0, "train"), Step("s", "b", 0, "train"))
    assert index.paths(0, 2) == [direct, over_c1, over_c0]
    assert index.paths(0, 2, limit=2) == [direct, over_c1]
    assert index.paths(1, 3) == [(Step("r", "c", 0, "train"), Step("s", "b", 1, "train"))]
    assert index.paths(3, 5) == []


def test_a_new_embedding_is_explained_by_its_neighbours(explained):
    bridge, triple_type, _ = explained
    x = np.random.default_rng(0).normal(size=bridge.dim(PROTEIN)).astype(np.float32)
    answers = [r.id for r in bridge.retrieve(*triple_type, embedding=x, k=3)]
    for explanation in bridge.explain(*triple_type, embedding=x, answers=answers):
        assert explanation.paths == []
        assert explanation.similar.keys() <= {"source"}
        assert explanation.shares["tails"] == 0
        np.testing.assert_allclose(sum(explanation.shares.values()), 1, rtol=1e-6)
    with pytest.raises(InputError, match="one of these"):
        bridge.explain(*triple_type, answers=answers)


def test_the_command_prints_and_writes_explanations(trained, capsys, tmp_path):
    command = ["--workdir", str(trained), "--source", PROTEIN, "--target", FUNCTION]
    command += ["--id", "O00255", "--k", "2", "--explain"]
    assert retrieve.main(command) == 0
    text = capsys.readouterr().out
    assert "from the bridge" in text
    assert "path: " in text
    assert retrieve.main([*command, "--output", str(tmp_path / "a.json")]) == 0
    records = json.loads((tmp_path / "a.json").read_text())
    assert [r["explanation"]["id"] for r in records] == [r["id"] for r in records]
    assert all(np.isclose(sum(r["explanation"]["shares"].values()), 1) for r in records)
    with pytest.raises(InputError, match="not into"):
        retrieve.main([*command, "--output", str(tmp_path / "a.csv")])
    with pytest.raises(InputError, match="not --answer bridge"):
        retrieve.main([*command, "--answer", "bridge"])


def test_settings_are_read_as_they_were_written_and_damage_is_refused(bridge, tmp_path):
    settings = bridge.retriever.fusion_settings
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings
    assert isinstance(settings, FusionSettings)
    path = tmp_path / "fusion.json"
    text = path.read_text()
    for damaged in (text.replace("0.", "1.", 1), text[:-9], "[]", text.replace('"step"', '"stop"')):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"fusion.json: is damaged .*bridge_jax.evaluate"):
            read_settings(tmp_path)
