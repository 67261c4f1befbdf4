"""The memory: a mixture of two distributions, its weight chosen on validation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax import run
from bridge_jax.baselines.nearest import Nearest
from bridge_jax.memory import WEIGHTS, Memory
from bridge_jax.ranking import rank


@pytest.fixture(scope="module")
def memory(trained) -> tuple[run.Run, Memory, Nearest]:
    opened = run.open_run(trained)
    setup = opened.setup
    stored = {n: t.stored.astype(np.float32) for n, t in setup.tables.items()}
    nearest = Nearest(setup.graph, stored, setup.graph.pairs(["train"]))
    return opened, Memory(setup.graph, nearest, opened.scorer), nearest


def test_it_is_the_mixture_that_it_says(memory):
    opened, mixed, nearest = memory
    kind = next(k for k in mixed.weights if k.tail == "molecular_function")
    heads = opened.setup.graph.queries("test")[kind].heads[:5]
    logits, votes = opened.scorer(kind, heads), np.asarray(nearest.votes(kind, heads), np.float64)
    share = votes / votes.sum(axis=1, keepdims=True)
    for weight in (0.0, 0.3, 1.0):
        mixed.weights[kind] = weight
        expected = (1 - weight) * np.asarray(jax.nn.softmax(logits), np.float64) + weight * share
        np.testing.assert_allclose(jnp.exp(mixed(kind, heads)), expected, rtol=1e-4, atol=1e-9)


def test_its_weights_are_the_best_on_validation(memory):
    opened, _, nearest = memory
    mixed = Memory(opened.setup.graph, nearest, opened.scorer)
    queries = opened.setup.graph.queries("validation")
    chosen = {k: w for k, w in mixed.weights.items() if w > 0}
    assert chosen, "homology must help somewhere"

    def mrr(kind) -> float:
        known = opened.setup.known_before_test[kind]
        return float((1 / rank(mixed, kind, queries[kind], known).realistic).mean())

    kind = next(k for k in chosen if k.tail == "molecular_function")
    best = mrr(kind)
    for other in WEIGHTS:
        mixed.weights[kind] = other
        assert mrr(kind) <= best + 1e-9
