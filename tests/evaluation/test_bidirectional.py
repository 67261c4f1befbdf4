"""The bridge asked both ways: Bayes' rule on its reverse answer."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from bridge_jax.data.graph import TripleType
from bridge_jax.evaluation.ranking import rank
from bridge_jax.evaluation.rerankers import WEIGHTS, BidirectionalScorer
from bridge_jax.experiment import workdir as workdirs


@pytest.fixture(scope="module")
def asked(trained) -> tuple[workdirs.TrainedRun, BidirectionalScorer]:
    opened = workdirs.load_run(trained)
    return opened, BidirectionalScorer(opened.experiment.graph, opened.scorer)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_it_is_bayes_rule_on_the_reverse_answer(asked, weight):
    opened, both = asked
    graph, scorer = opened.experiment.graph, opened.scorer
    kind = next(k for k in both.weights if k.tail == "molecular_function")
    back = TripleType(kind.tail, kind.relation, kind.head)
    tails = graph.counts[graph.type_id(kind.tail)]
    heads = graph.queries("test")[kind].heads[:5]
    reverse = np.asarray(scorer(back, np.arange(tails)), np.float64)  # [tails, all heads]
    given = reverse - logsumexp(reverse, axis=1, keepdims=True)
    counts = np.bincount(graph.pairs(["train"])[kind].tails, minlength=tails)
    forward = log_softmax(np.asarray(scorer(kind, heads), np.float64), axis=1)
    expected = forward + weight * (given[:, heads].T + np.log1p(counts))
    both.weights[kind] = weight
    found = np.asarray(both(kind, heads))
    # Up to a constant of each head, which no ranking sees: the prior of the head itself.
    off = found - expected
    np.testing.assert_allclose(off, off[:, :1] * np.ones_like(off), atol=2e-3)


def test_its_weights_are_the_best_on_validation(asked):
    opened, _ = asked
    both = BidirectionalScorer(opened.experiment.graph, opened.scorer)
    queries = opened.experiment.graph.queries("validation")
    kind = next(k for k, w in both.weights.items() if w > 0)

    def mrr() -> float:
        known = opened.experiment.known_before_test[kind]
        return float((1 / rank(both, kind, queries[kind], known).realistic).mean())

    best = mrr()
    for other in WEIGHTS:
        both.weights[kind] = other
        assert mrr() <= best + 1e-9
