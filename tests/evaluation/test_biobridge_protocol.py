"""The released protocol against lists worked by hand and a slow definition."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation import biobridge_protocol as biobridge
from bridge_jax.evaluation.biobridge_protocol import CUTS, ask, candidates, tasks
from bridge_jax.experiment import workdir as workdirs

TREATS = TripleType("drug", "treats", "disease")
PPI = TripleType("protein", "ppi", "protein")


def pairs(*rows):
    heads, tails = np.array(rows, np.int32).reshape(-1, 2).T
    return Pairs(heads, tails)


def fixed(scores):
    return lambda kind, heads: jnp.asarray(np.asarray(scores, np.float32)[heads])


def test_recall_and_precision_by_hand():
    # Head 0 lists 4, 2, 0 and has 2 and 0; head 2 lists 0, 2, 4 and has 4. Tail 1 is not frequent.
    scores = [[1, 9, 2, 9, 3, 9], [0] * 6, [3, 9, 2, 9, 1, 9]]
    found = ask(fixed(scores), TREATS, pairs((0, 2), (0, 0), (2, 4)), np.array([0, 2, 4]), block=1)
    assert (found["heads"], found["candidates"]) == (2, 3)
    assert [found[f"recall@{k}"] for k in (1, 2, 3, 20)] == pytest.approx([0, 1 / 4, 1, 1])
    expected = [0, 1 / 4, (2 / 3 + 1 / 3) / 2, (2 / 20 + 1 / 20) / 2]
    assert [found[f"precision@{k}"] for k in (1, 2, 3, 20)] == pytest.approx(expected)


def test_a_perfect_model_finds_all_and_a_constant_one_what_chance_does():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 60)) < 0.1
    truth[:, :5] = False  # the first ids must gain nothing from a tie
    truth[:, 5] = True
    answers = pairs(*np.argwhere(truth).tolist())
    perfect = ask(fixed(truth), TREATS, answers, np.arange(60))
    most = np.minimum(truth.sum(1)[:, None], CUTS)
    for i, k in enumerate(CUTS):
        assert perfect[f"precision@{k}"] == pytest.approx((most[:, i] / k).mean())
        assert perfect[f"recall@{k}"] == pytest.approx((most[:, i] / truth.sum(1)).mean())
    constant = ask(fixed(np.zeros((300, 60))), TREATS, answers, np.arange(60))
    listed = np.random.default_rng(0).permutation(60)[:10]
    assert constant["precision@10"] == pytest.approx(truth[:, listed].mean())


def test_a_head_is_not_in_its_own_list():
    scores = [[9.0, 1.0, 0.0], [0.0, 9.0, 1.0]]
    found = ask(fixed(scores), PPI, pairs((0, 1), (1, 2)), np.array([0, 1, 2]))
    assert found["recall@1"] == 1


def test_only_tails_of_many_facts_are_asked_and_every_split_answers(trained):
    experiment = workdirs.load_run(trained).experiment
    kind = TripleType("gene/protein", "interacts with", "molecular_function")
    facts = experiment.graph.pairs()[kind]
    often = {t for t in range(80) if (facts.tails == t).sum() >= 20}
    assert 3 < len(often) < 80
    assert set(candidates(experiment, kind, 20).tolist()) == often
    held = set(experiment.graph.queries("test")[kind].heads.tolist())
    expected = {
        (h, t)
        for h, t in zip(*(a.tolist() for a in facts), strict=True)
        if h in held and t in often
    }
    found = tasks(experiment, "test", 20)[kind]
    assert set(zip(*(a.tolist() for a in found), strict=True)) == expected
    assert len(found.heads) == len(expected)
    with pytest.raises(InputError, match="no test head has a tail with 9999 facts or more"):
        tasks(experiment, "test", 9999)


def test_the_command_lists_every_model(trained, capsys, monkeypatch):
    command = ["--workdir", str(trained), "--protocol", "biobridge", "--baselines", "popularity"]
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    made = json.loads((trained / "eval/test/biobridge.json").read_text())
    for rows in made["tasks"].values():
        assert list(rows) == ["popularity", "bridge", "bridge + kNN"]
        for row in rows.values():
            recalls = [row[f"recall@{k}"] for k in CUTS]
            assert recalls == sorted(recalls)
            assert 0 <= recalls[0] <= recalls[-1] <= 1
    assert made["about"]["split"] == "test"
    assert "recall@10 by task" in out
    assert "mean over tasks" in out
    assert biobridge.FREQUENT == 50
