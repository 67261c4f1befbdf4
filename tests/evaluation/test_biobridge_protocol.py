"""The protocol of the BioBridge release against lists by hand and its definition."""

import json

import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.biobridge_protocol import (
    CUTOFFS,
    MIN_FACTS,
    answers_by_task,
    candidate_tails,
    evaluate_task,
)
from tests.helpers.rankings import lookup_scorer, make_pairs

TREATS = TripleType("drug", "treats", "disease")
PPI = TripleType("protein", "ppi", "protein")


def test_recall_and_precision_by_hand():
    # Head 0 lists 4, 2, 0 and has 2 and 0; head 2 lists 0, 2, 4 and has 4. Tail 1 is not frequent.
    scores = [[1, 9, 2, 9, 3, 9], [0] * 6, [3, 9, 2, 9, 1, 9]]
    answers, candidates = make_pairs((0, 2), (0, 0), (2, 4)), np.array([0, 2, 4])
    values = evaluate_task(lookup_scorer(scores), TREATS, answers, candidates, block=1)
    assert (values["heads"], values["candidates"]) == (2, 3)
    assert [values[f"recall@{k}"] for k in (1, 2, 3, 20)] == pytest.approx([0, 1 / 4, 1, 1])
    expected = [0, 1 / 4, (2 / 3 + 1 / 3) / 2, (2 / 20 + 1 / 20) / 2]
    assert [values[f"precision@{k}"] for k in (1, 2, 3, 20)] == pytest.approx(expected)


def test_a_perfect_model_finds_all_answers_and_a_constant_model_is_at_chance_level():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 60)) < 0.1
    truth[:, :5] = False  # the first ids must not gain from a tie
    truth[:, 5] = True
    answers = make_pairs(*np.argwhere(truth).tolist())
    perfect = evaluate_task(lookup_scorer(truth), TREATS, answers, np.arange(60))
    max_hits = np.minimum(truth.sum(1)[:, None], CUTOFFS)
    for i, k in enumerate(CUTOFFS):
        assert perfect[f"precision@{k}"] == pytest.approx((max_hits[:, i] / k).mean())
        assert perfect[f"recall@{k}"] == pytest.approx((max_hits[:, i] / truth.sum(1)).mean())
    constant = evaluate_task(lookup_scorer(np.zeros((300, 60))), TREATS, answers, np.arange(60))
    listed = np.random.default_rng(0).permutation(60)[:10]
    assert constant["precision@10"] == pytest.approx(truth[:, listed].mean())


def test_a_head_is_not_listed_for_itself():
    scores = [[9.0, 1.0, 0.0], [0.0, 9.0, 1.0]]
    values = evaluate_task(
        lookup_scorer(scores), PPI, make_pairs((0, 1), (1, 2)), np.array([0, 1, 2])
    )
    assert values["recall@1"] == 1


def test_candidates_are_frequent_tails_and_answers_come_from_every_split(trained_run):
    experiment = trained_run.experiment
    triple_type = TripleType("gene/protein", "interacts with", "molecular_function")
    facts = experiment.graph.pairs()[triple_type]
    frequent = {t for t in range(80) if (facts.tails == t).sum() >= 20}
    assert 3 < len(frequent) < 80
    assert set(candidate_tails(experiment, triple_type, 20).tolist()) == frequent
    heads = set(experiment.graph.queries("test")[triple_type].heads.tolist())
    expected = {
        (h, t)
        for h, t in zip(*(a.tolist() for a in facts), strict=True)
        if h in heads and t in frequent
    }
    answers = answers_by_task(experiment, "test", 20)[triple_type]
    assert set(zip(*(a.tolist() for a in answers), strict=True)) == expected
    assert len(answers.heads) == len(expected)
    with pytest.raises(InputError, match="no test head has a tail with 9999 facts or more"):
        answers_by_task(experiment, "test", 9999)


def test_the_command_evaluates_every_model(run_copy, capsys):
    command = ["--workdir", str(run_copy), "--protocol", "biobridge", "--baselines", "popularity"]
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    results = json.loads((run_copy / "eval/test/biobridge.json").read_text())
    for rows in results["tasks"].values():
        assert list(rows) == ["popularity", "bridge", "fusion"]
        for row in rows.values():
            recalls = [row[f"recall@{k}"] for k in CUTOFFS]
            assert recalls == sorted(recalls)
            assert 0 <= recalls[0] <= recalls[-1] <= 1
    assert results["about"]["split"] == "test"
    assert "recall@10 by task" in out
    assert "mean over tasks" in out
    assert MIN_FACTS == 50
