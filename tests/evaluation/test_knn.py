"""The memory: a mixture of distributions, its weights chosen on validation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines.head_knn import HeadKNN
from bridge_jax.evaluation.baselines.tail_knn import TailKNN
from bridge_jax.evaluation.ranking import rank
from bridge_jax.evaluation.rerankers import WEIGHTS, KNNInterpolation, bridged, check_spaces
from bridge_jax.experiment import workdir as workdirs


@pytest.fixture(scope="module")
def memory(trained) -> tuple[workdirs.TrainedRun, KNNInterpolation, HeadKNN]:
    opened = workdirs.load_run(trained)
    experiment = opened.experiment
    stored = {n: t.stored.astype(np.float32) for n, t in experiment.tables.items()}
    nearest = HeadKNN(experiment.graph, stored, experiment.graph.pairs(["train"]))
    return opened, KNNInterpolation(experiment.graph, [nearest], opened.scorer), nearest


def test_it_is_the_mixture_that_it_says(memory):
    opened, mixed, nearest = memory
    kind = next(k for k in mixed.weights if k.tail == "molecular_function")
    heads = opened.experiment.graph.queries("test")[kind].heads[:5]
    logits, votes = opened.scorer(kind, heads), np.asarray(nearest.votes(kind, heads), np.float64)
    share = votes / votes.sum(axis=1, keepdims=True)
    for weight in (0.0, 0.3, 1.0):
        mixed.weights[kind] = (weight,)
        expected = (1 - weight) * np.asarray(jax.nn.softmax(logits), np.float64) + weight * share
        np.testing.assert_allclose(jnp.exp(mixed(kind, heads)), expected, rtol=1e-4, atol=1e-9)


def test_its_weights_are_the_best_on_validation(memory):
    opened, _, nearest = memory
    mixed = KNNInterpolation(opened.experiment.graph, [nearest], opened.scorer)
    queries = opened.experiment.graph.queries("validation")
    chosen = {k: w for k, (w,) in mixed.weights.items() if w > 0}
    assert chosen, "homology must help somewhere"

    def mrr(kind) -> float:
        known = opened.experiment.known_before_test[kind]
        return float((1 / rank(mixed, kind, queries[kind], known).realistic).mean())

    kind = next(k for k in chosen if k.tail == "molecular_function")
    best = mrr(kind)
    for other in WEIGHTS:
        mixed.weights[kind] = (other,)
        assert mrr(kind) <= best + 1e-9


def test_several_spaces_share_the_weight(memory):
    opened, _, nearest = memory
    experiment = opened.experiment
    stored = {n: t.stored.astype(np.float32) for n, t in experiment.tables.items()}
    train = experiment.graph.pairs(["train"])
    near = [
        nearest,
        bridged(experiment.graph, train, opened.scorer),
        TailKNN(experiment.graph, stored, train),
    ]
    mixed = KNNInterpolation(experiment.graph, near, opened.scorer)
    assert {len(w) for w in mixed.weights.values()} == {3}
    kind = next(k for k in mixed.weights if k.tail == "molecular_function")
    heads = train[kind].heads[:5]  # tails like its own speak of a head that training has seen
    votes = [np.asarray(n.votes(kind, heads), np.float64) for n in near]
    shares = [v / v.sum(axis=1, keepdims=True) for v in votes]
    mixed.weights[kind] = (0.25, 0.3, 0.2)
    own = np.asarray(jax.nn.softmax(opened.scorer(kind, heads)), np.float64)
    expected = 0.25 * own + 0.25 * shares[0] + 0.3 * shares[1] + 0.2 * shares[2]
    np.testing.assert_allclose(jnp.exp(mixed(kind, heads)), expected, rtol=1e-4, atol=1e-9)


def test_bridged_neighbours_are_those_of_the_bridged_heads(memory):
    opened, _, _ = memory
    graph = opened.experiment.graph
    near = bridged(graph, graph.pairs(["train"]), opened.scorer)
    kind = next(k for k in near.settings if k.tail == "molecular_function")
    train = graph.pairs(["train"])[kind]
    near.settings[kind] = "bridged", 1e-4  # so sharp that the nearest head alone votes
    heads = graph.queries("test")[kind].heads[:5]
    known = np.unique(train.heads)
    similarity = opened.scorer.heads(kind, heads) @ opened.scorer.heads(kind, known).T
    for votes, best in zip(near.votes(kind, heads), np.argmax(similarity, axis=1), strict=True):
        assert set(np.flatnonzero(votes > 0.5)) == set(train.tails[train.heads == known[best]])


@pytest.mark.parametrize(("names", "said"), [((), "''"), (("sorce",), "did you mean 'source'")])
def test_spaces_that_there_are_not_are_refused(names, said):
    with pytest.raises(InputError, match=said):
        check_spaces(names)
