"""Evaluators: properties that all share, and retrieval."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators import EVALUATORS, Evaluator, make_evaluators
from bridge_jax.evaluation.evaluators.retrieval import Retrieval, rank_split
from bridge_jax.evaluation.evaluators.semantic_similarity import SemanticSimilarity
from bridge_jax.evaluation.ranking import metrics
from bridge_jax.training import hooks
from tests.helpers.experiments import fact_rows, with_test_facts
from tests.helpers.rankings import make_pairs

PROTEIN, FUNCTION, COMPONENT = "gene/protein", "molecular_function", "cellular_component"
TO_FUNCTION = TripleType(PROTEIN, "interacts with", FUNCTION)


def experiment_for(name, experiment):
    """An experiment whose test facts the evaluator can use."""
    graph = experiment.graph
    if name == "ppi":
        pytest.importorskip("sklearn")
        triple_type = TripleType(PROTEIN, "interacts with", PROTEIN)
        heads, tails = np.triu_indices(25, k=1)
        pairs = Pairs(heads.astype(np.int32)[::4], tails.astype(np.int32)[::4])
        return with_test_facts(experiment, [fact_rows(graph, triple_type, pairs)])
    if name == "phenotype":
        triple_type = TripleType(FUNCTION, "interacts with", COMPONENT)
        rows = fact_rows(graph, triple_type, make_pairs((3, 1), (3, 9), (20, 9)))
        return with_test_facts(experiment, [rows], [COMPONENT])
    if name == "relation":
        triple_type = TripleType(FUNCTION, "interacts with", FUNCTION)
        rows = fact_rows(graph, triple_type, make_pairs((1, 2), (1, 60), (7, 5)))
        return with_test_facts(experiment, [rows])
    return experiment


@pytest.fixture(scope="module", params=EVALUATORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def experiment(name, trained_run):
    return experiment_for(name, trained_run.experiment)


@pytest.fixture(scope="module")
def evaluator(name, experiment):
    return make_evaluators(experiment, [name], "test")[name]


@pytest.fixture(scope="module")
def values(evaluator, trained_run):
    return list(evaluator(trained_run.scorer))


class TestEveryEvaluator:
    """What every member of `EVALUATORS` must fulfil. All heads of the small dataset are unseen."""

    def test_name_is_the_registry_key(self, name, evaluator):
        assert isinstance(evaluator, Evaluator)
        assert evaluator.name == name

    def test_values_are_finite_and_their_names_are_unique(self, values):
        assert values
        assert len(dict(values)) == len(values)
        for key, value in values:
            assert isinstance(key, str)
            assert isinstance(value, float)
            assert math.isfinite(value)

    def test_values_are_deterministic(self, name, experiment, evaluator, values, trained_run):
        assert list(evaluator(trained_run.scorer)) == values
        again = make_evaluators(experiment, [name], "test")[name]
        assert list(again(trained_run.scorer)) == values

    def test_values_do_not_depend_on_the_block(self, name, experiment, values, trained_run):
        config = experiment.config.copy_and_resolve_references()
        config.evaluate.block = 7
        evaluator = make_evaluators(replace(experiment, config=config), [name], "test")[name]
        assert dict(evaluator(trained_run.scorer)) == pytest.approx(dict(values), abs=1e-6)


def test_an_unknown_evaluator_is_refused(trained):
    with pytest.raises(InputError, match=r"evaluator 'pip' .*did you mean 'ppi'"):
        evaluate.main(["--workdir", str(trained), "--evaluators", "pip"])


def test_retrieval_gives_the_mrr_of_the_table(trained_run):
    values = dict(Retrieval(trained_run.experiment, "test")(trained_run.scorer))
    ranks = rank_split(trained_run.scorer, trained_run.experiment, "test")
    mrr = {str(k): metrics(r)["mrr"] for k, r in ranks.items()}
    hits = [metrics(r)["hits@10"] for r in ranks.values()]
    assert values["mrr"] == pytest.approx(np.mean(list(mrr.values())))
    assert {k: values[f"mrr: {k}"] for k in mrr} == pytest.approx(mrr)
    assert values["hits@10"] == pytest.approx(np.mean(hits))


def test_training_runs_the_evaluators_of_the_config(trained_run):
    config = trained_run.experiment.config.copy_and_resolve_references()
    config.evaluate.evaluators = ("semantic_similarity",)
    values = hooks.validate(replace(trained_run.experiment, config=config), trained_run.params)
    evaluator = SemanticSimilarity(trained_run.experiment, "validation")
    name = f"{FUNCTION} Lin: bridged"
    assert values[f"semantic_similarity/{name}"] == dict(evaluator(trained_run.scorer))[name]
    assert {"mrr", "hits@10", f"retrieval/mrr: {TO_FUNCTION}"} <= set(values)


def test_the_command_prints_and_writes_the_values(run_copy, trained_run, capsys):
    command = ["--workdir", str(run_copy), "--evaluators", "retrieval", "semantic_similarity"]
    assert evaluate.main(command) == 0
    header = capsys.readouterr().out.partition("semantic_similarity")[2].splitlines()[0]
    assert header.split() == ["raw", "projected", "bridged"]
    written = json.loads((run_copy / "eval/test/evaluators.json").read_text())
    expected = dict(SemanticSimilarity(trained_run.experiment, "test")(trained_run.scorer))
    assert written["semantic_similarity"] == pytest.approx(expected)
