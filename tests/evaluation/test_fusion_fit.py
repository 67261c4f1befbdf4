"""Fusion and the bidirectional scorer against their equations; their weights are the best ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines.head_knn import HeadKNN
from bridge_jax.evaluation.baselines.tail_knn import TailKNN
from bridge_jax.evaluation.fusion_fit import (
    KNN_WEIGHTS,
    REVERSE_WEIGHTS,
    fit_reverse_weights,
    fit_weights,
)
from bridge_jax.evaluation.ranking import rank
from bridge_jax.models.bidirectional import BidirectionalScorer
from bridge_jax.models.fusion import BRIDGE_SHARE, Fusion, check_spaces
from bridge_jax.models.knn import BridgedSpace, Setting

FUNCTION = "molecular_function"


def to_function(triple_types):
    """The first triple type with molecular functions as tails."""
    return next(k for k in triple_types if k.tail == FUNCTION)


def validation_mrr(run, scorer, triple_type):
    queries = run.experiment.graph.queries("validation")[triple_type]
    known = run.experiment.known_before_test[triple_type]
    return float((1 / rank(scorer, triple_type, queries, known).realistic).mean())


@pytest.fixture(scope="module")
def tables(trained_run):
    return {n: t.stored.astype(np.float32) for n, t in trained_run.experiment.tables.items()}


@pytest.fixture(scope="module")
def train(trained_run):
    return trained_run.experiment.graph.pairs(["train"])


@pytest.fixture(scope="module")
def head_knn(trained_run, tables, train):
    return HeadKNN(trained_run.experiment.graph, tables, train)


@pytest.fixture
def fusion(trained_run, head_knn):
    graph, voters = trained_run.experiment.graph, {"source": head_knn}
    return Fusion(trained_run.scorer, voters, fit_weights(graph, trained_run.scorer, voters))


@pytest.fixture
def bidirectional(trained_run):
    graph, bridge = trained_run.experiment.graph, trained_run.scorer
    return BidirectionalScorer(graph, bridge, fit_reverse_weights(graph, bridge))


class TestFusion:
    def test_probabilities_match_the_equation(self, trained_run, head_knn, fusion):
        triple_type = to_function(fusion.weights)
        heads = trained_run.experiment.graph.queries("test")[triple_type].heads[:5]
        bridge = np.asarray(jax.nn.softmax(trained_run.scorer(triple_type, heads)), np.float64)
        votes = np.asarray(head_knn.votes(triple_type, heads), np.float64)
        share = votes / votes.sum(axis=1, keepdims=True)
        for weight in (0.0, 0.3, 1.0):
            fusion.weights[triple_type] = (weight,)
            probabilities = jnp.exp(fusion(triple_type, heads))
            of_neighbours = min(weight, 1 - BRIDGE_SHARE)
            expected = (1 - of_neighbours) * bridge + of_neighbours * share
            np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-9)

    def test_weights_are_the_best_on_validation(self, trained_run, fusion):
        selected = {k: w for k, (w,) in fusion.weights.items() if w > 0}
        assert selected, "similar heads must help some triple type"
        triple_type = to_function(selected)
        best = validation_mrr(trained_run, fusion, triple_type)
        for weight in KNN_WEIGHTS:
            fusion.weights[triple_type] = (weight,)
            assert validation_mrr(trained_run, fusion, triple_type) <= best + 1e-9

    @pytest.mark.slow
    def test_several_spaces_share_the_weight(self, trained_run, tables, train, head_knn):
        graph, scorer = trained_run.experiment.graph, trained_run.scorer
        voters = {
            "source": head_knn,
            "bridged": HeadKNN(graph, {}, train, {"bridged": BridgedSpace(scorer)}),
            "tails": TailKNN(graph, tables, train),
        }
        fusion = Fusion(scorer, voters, fit_weights(graph, scorer, voters))
        assert {len(w) for w in fusion.weights.values()} == {3}
        triple_type = to_function(fusion.weights)
        heads = train[triple_type].heads[:5]  # `TailKNN` votes for heads with training facts
        votes = [np.asarray(v.votes(triple_type, heads), np.float64) for v in voters.values()]
        shares = [v / v.sum(axis=1, keepdims=True) for v in votes]
        fusion.weights[triple_type] = (0.25, 0.3, 0.2)
        bridge = np.asarray(jax.nn.softmax(scorer(triple_type, heads)), np.float64)
        expected = 0.25 * bridge + 0.25 * shares[0] + 0.3 * shares[1] + 0.2 * shares[2]
        probabilities = jnp.exp(fusion(triple_type, heads))
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-9)

    def test_bridged_neighbours_are_those_of_the_bridged_heads(self, trained_run, train):
        graph, scorer = trained_run.experiment.graph, trained_run.scorer
        voter = HeadKNN(graph, {}, train, {"bridged": BridgedSpace(scorer)})
        triple_type = to_function(voter.settings)
        pairs = train[triple_type]
        voter.settings[triple_type] = Setting("bridged", 1e-4)  # only the nearest head votes
        heads = graph.queries("test")[triple_type].heads[:5]
        training_heads = np.unique(pairs.heads)
        keys = scorer.heads(triple_type, training_heads)
        nearest = np.argmax(scorer.heads(triple_type, heads) @ keys.T, axis=1)
        for votes, row in zip(voter.votes(triple_type, heads), nearest, strict=True):
            tails = set(pairs.tails[pairs.heads == training_heads[row]])
            assert set(np.flatnonzero(votes > 0.5)) == tails

    @pytest.mark.parametrize(
        ("names", "message"), [((), "''"), (("sorce",), "did you mean 'source'")]
    )
    def test_unknown_spaces_are_refused(self, names, message):
        with pytest.raises(InputError, match=message):
            check_spaces(names)


class TestBidirectionalScorer:
    @pytest.mark.parametrize("weight", [0.0, 0.5])
    def test_scores_match_the_equation(self, trained_run, bidirectional, weight):
        graph, scorer = trained_run.experiment.graph, trained_run.scorer
        triple_type = to_function(bidirectional.weights)
        reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        num_tails = graph.counts[graph.type_id(triple_type.tail)]
        heads = graph.queries("test")[triple_type].heads[:5]
        reverse_scores = np.asarray(scorer(reverse, np.arange(num_tails)), np.float64)
        given_tail = reverse_scores - logsumexp(reverse_scores, axis=1, keepdims=True)
        counts = np.bincount(graph.pairs(["train"])[triple_type].tails, minlength=num_tails)
        forward = log_softmax(np.asarray(scorer(triple_type, heads), np.float64), axis=1)
        expected = forward + weight * (given_tail[:, heads].T + np.log1p(counts))
        bidirectional.weights[triple_type] = weight
        # Equal up to a constant of each head, which does not change ranks: the head's own prior.
        difference = np.asarray(bidirectional(triple_type, heads)) - expected
        constant = difference[:, :1] * np.ones_like(difference)
        np.testing.assert_allclose(difference, constant, atol=2e-3)

    def test_weights_are_the_best_on_validation(self, trained_run, bidirectional):
        triple_type = next(k for k, w in bidirectional.weights.items() if w > 0)
        best = validation_mrr(trained_run, bidirectional, triple_type)
        for weight in REVERSE_WEIGHTS:
            bidirectional.weights[triple_type] = weight
            assert validation_mrr(trained_run, bidirectional, triple_type) <= best + 1e-9
