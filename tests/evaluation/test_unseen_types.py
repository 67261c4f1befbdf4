"""Retrieval by an unseen node type or triple type, against rankings of the same vectors."""

import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax.data.embedding_tables import l2_normalise
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.phenotype import Phenotype
from bridge_jax.evaluation.evaluators.relation import UnseenRelation
from bridge_jax.evaluation.evaluators.representations import model_inputs
from bridge_jax.evaluation.evaluators.semantic_similarity import PARENT_CHILD
from bridge_jax.evaluation.ranking import metrics, rank
from tests.helpers.experiments import fact_rows, with_test_facts
from tests.helpers.rankings import make_pairs

PROTEIN, FUNCTION, COMPONENT = "gene/protein", "molecular_function", "cellular_component"
TO_FUNCTION = TripleType(PROTEIN, "interacts with", FUNCTION)
TO_COMPONENT = TripleType(PROTEIN, "interacts with", COMPONENT)


def raw_and_inputs(experiment, node_type):
    """All embeddings of a node type: as stored, and as the model reads them."""
    raw = experiment.tables[node_type].stored.astype(np.float32)
    return raw, model_inputs(experiment, node_type, raw)


def metrics_of(experiment, heads, tails, triple_type, queries):
    """Metrics of the dot products of some vectors `[heads, d]` and `[tails, d]`."""

    def scorer(_, batch):
        return jnp.asarray(heads)[batch] @ jnp.asarray(tails).T

    return metrics(rank(scorer, triple_type, queries, experiment.known[triple_type]))


def test_an_unseen_node_type_is_read_as_its_proxy(trained_run):
    scorer, original = trained_run.scorer, trained_run.experiment
    with pytest.raises(InputError, match="holds out no node type as a whole"):
        Phenotype(original, "test")
    graph = original.graph
    to_component = TripleType(FUNCTION, "interacts with", COMPONENT)
    queries = make_pairs((3, 1), (3, 9), (20, 9), (41, 30))
    rows = [
        fact_rows(graph, TO_COMPONENT, graph.pairs()[TO_COMPONENT]),
        fact_rows(graph, to_component, queries),
    ]
    experiment = with_test_facts(original, rows, [COMPONENT])
    values = dict(Phenotype(experiment, "test")(scorer))
    assert len(experiment.known[to_component].tails) == 4
    raw_heads, x = raw_and_inputs(experiment, FUNCTION)
    raw_tails, _ = raw_and_inputs(experiment, COMPONENT)
    y = model_inputs(experiment, FUNCTION, raw_tails)  # components read as functions

    def expect(heads, tails):
        return metrics_of(experiment, heads, tails, to_component, queries)

    task = f"{FUNCTION} → {COMPONENT}"
    expected = expect(l2_normalise(raw_heads), l2_normalise(raw_tails))
    assert values[f"{task} mrr: raw"] == pytest.approx(expected["mrr"])
    projected = scorer.keys(FUNCTION, y)
    expected = expect(scorer.tails(FUNCTION), projected)
    for metric in ("mrr", "recall@10", "precision@10", "ndcg@10"):
        value = values[f"{task} {metric}: projected as {FUNCTION}"]
        assert value == pytest.approx(expected[metric])
    to_protein = TripleType(FUNCTION, "interacts with", PROTEIN)
    expected = expect(scorer.queries(to_protein, x), scorer.queries(to_protein, y))
    method = f"as {FUNCTION}, interacts with → {PROTEIN}"
    assert values[f"{task} mrr: {method}"] == pytest.approx(expected["mrr"])

    # Proteins reach the components by their relation to functions, as in the paper.
    heads = scorer.queries(TO_FUNCTION, raw_and_inputs(experiment, PROTEIN)[1])
    protein_queries = experiment.graph.pairs(["test"])[TO_COMPONENT]
    expected = metrics_of(experiment, heads, projected, TO_COMPONENT, protein_queries)
    task = f"{PROTEIN} → {COMPONENT}"
    assert values[f"{task} mrr: interacts with → {FUNCTION}"] == pytest.approx(expected["mrr"])
    assert f"{task} mrr: raw" not in values


def test_an_unseen_triple_type_is_ranked_by_every_method(trained_run):
    scorer, original = trained_run.scorer, trained_run.experiment
    graph = original.graph
    triple_type = TripleType(FUNCTION, "interacts with", FUNCTION)
    pairs = make_pairs((1, 2), (1, 60), (7, 5))
    experiment = with_test_facts(original, [fact_rows(graph, triple_type, pairs)])
    values = dict(UnseenRelation(experiment, "test")(scorer))
    queries = experiment.queries["test"][triple_type]
    assert len(queries.heads) == 6  # both directions
    _, x = raw_and_inputs(experiment, FUNCTION)
    tails = np.asarray(scorer.tails(FUNCTION))
    heads_by_method = {
        "projected": tails,
        "bridged": scorer.queries(triple_type, x),
        "by parent-child": scorer.queries(TripleType(FUNCTION, PARENT_CHILD, FUNCTION), x),
    }
    for method, heads in heads_by_method.items():
        expected = metrics_of(experiment, heads, tails, triple_type, queries)
        for metric in ("mrr", "hits@10", "recall@50"):
            value = values[f"{triple_type} {metric}: {method}"]
            assert value == pytest.approx(expected[metric])
    # Candidates: 80 functions without the head and its other fact.
    n = np.array([78, 78, 79, 79, 79, 79])
    chance = np.mean([np.sum(1 / np.arange(1, k + 1)) / k for k in n])
    assert values[f"{triple_type} mrr: chance"] == pytest.approx(chance)
    assert f"{triple_type} mrr: raw" in values


def test_a_dataset_without_an_unseen_triple_type_is_refused(trained_run):
    experiment = trained_run.experiment
    with pytest.raises(InputError, match="no triple type with test queries and without training"):
        UnseenRelation(experiment, "test")
    pairs = experiment.graph.pairs()[TO_COMPONENT]
    rows = fact_rows(experiment.graph, TO_COMPONENT, pairs)
    with pytest.raises(InputError, match=rf"no other training fact has a node of {COMPONENT}"):
        UnseenRelation(with_test_facts(experiment, [rows], [COMPONENT]), "test")
