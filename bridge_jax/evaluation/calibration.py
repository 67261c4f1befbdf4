"""Confidence of an answer: how often answers of its probability were facts of the validation split.

The probability that a scorer gives to an answer is relative to the other candidates. Its confidence
is measured: the share of answers of that probability, among the best ten of each validation query
that are not training facts, that are facts of the validation split. It does not fall as the
probability rises (isotonic regression).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bridge_jax.data.graph import Graph, Known, Pairs, TripleType, known_positives
from bridge_jax.evaluation.ranking import Scorer

NUM_ANSWERS = 10  # best answers of each query
_NUM_BINS = 12
_BLOCK = 64  # heads scored at a time


class ConfidenceBin(NamedTuple):
    """Answers of similar probability.

    Attributes:
      probability: Smallest probability of the bin.
      known: Share of its answers that are facts of the split.
      num_answers: Number of its answers.
    """

    probability: float
    known: float
    num_answers: int


def best_answers(
    scorer: Scorer, triple_type: TripleType, heads: Int[np.ndarray, " n"], excluded: Known
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Returns the probabilities and local ids of the best answers that are not excluded.

    The probabilities are over all nodes of the tail type, those of the excluded ones included, as
    they are shown.

    Args:
      scorer: Model whose scores are logits or log-probabilities.
      triple_type: Triple type of the queries.
      heads: Local ids of the heads.
      excluded: Known facts that are no answers. The head itself is never one.
    """
    probabilities, answers = [], []
    for start in range(0, len(heads), _BLOCK):
        block = heads[start : start + _BLOCK]
        padded = np.pad(block, (0, _BLOCK - len(block)), "edge")
        rows, tails = excluded.of(padded)
        if triple_type.head == triple_type.tail:
            rows = np.concatenate([rows, np.arange(_BLOCK)])
            tails = np.concatenate([tails, padded])
        scores = scorer(triple_type, padded)
        mask = np.zeros(scores.shape, bool)
        mask[rows, tails] = True
        k = min(NUM_ANSWERS, scores.shape[1])
        best, index = (np.asarray(a)[: len(block)] for a in _best(scores, jnp.asarray(mask), k))
        probabilities.append(best)
        answers.append(index)
    return np.concatenate(probabilities), np.concatenate(answers)


@partial(jax.jit, static_argnums=2)
def _best(
    scores: Float[Array, "b n"], excluded: Bool[Array, "b n"], k: int
) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    probability = jax.nn.softmax(scores, axis=1)
    best, index = jax.lax.top_k(jnp.where(excluded, -1.0, probability), k)
    return best, index


def are_facts(
    pairs: Pairs, heads: Int[np.ndarray, " n"], answers: Int[np.ndarray, "n k"]
) -> Bool[np.ndarray, "n k"]:
    """Returns which answers are facts of a split.

    Args:
      pairs: Facts of the split, of one triple type.
      heads: Heads of the queries.
      answers: Tails that were answered.
    """
    size = 1 + max((int(c.max(initial=0)) for c in (pairs.tails, answers)), default=0)
    facts = pairs.heads.astype(np.int64) * size + pairs.tails
    return np.isin(heads.astype(np.int64)[:, None] * size + answers, facts)


def fit_confidence(
    probability: Float[np.ndarray, " n"], is_fact: Bool[np.ndarray, " n"]
) -> tuple[ConfidenceBin, ...]:
    """Groups answers by probability, so that the share of facts does not fall.

    Args:
      probability: Probability of each answer.
      is_fact: Whether it is a fact.

    Returns:
      Bins in ascending order of probability; empty without an answer.
    """
    order = np.argsort(probability, kind="stable")
    probability, is_fact = probability[order], is_fact[order]
    bins: list[ConfidenceBin] = []
    # Half of the bins hold the most probable tenth, which people look at.
    fractions = np.concatenate([np.linspace(0, 0.9, _NUM_BINS // 2, endpoint=False),
                                np.linspace(0.9, 1, _NUM_BINS // 2 + 1)])  # fmt: skip
    edges = np.unique(np.round(fractions * len(probability)).astype(int))
    for start, stop in pairwise(edges.tolist()):
        known = float(is_fact[start:stop].mean())
        bins.append(ConfidenceBin(float(probability[start]), known, stop - start))
        while len(bins) > 1 and bins[-1].known <= bins[-2].known:  # pool adjacent violators
            high, low = bins.pop(), bins.pop()
            total = low.num_answers + high.num_answers
            known = (low.known * low.num_answers + high.known * high.num_answers) / total
            bins.append(ConfidenceBin(low.probability, known, total))
    return tuple(bins)


def confidence_of(bins: Sequence[ConfidenceBin], probability: float) -> ConfidenceBin | None:
    """Returns the bin of a probability; the lowest one if it is below all; None without bins."""
    at_most = [b for b in bins if b.probability <= probability]
    return at_most[-1] if at_most else next(iter(bins), None)


def calibrate(
    scorer: Scorer,
    graph: Graph,
    queries: Mapping[TripleType, Pairs],
    known_splits: Sequence[str] = ("train",),
) -> dict[TripleType, tuple[ConfidenceBin, ...]]:
    """Measures the confidence of a scorer's answers for each triple type.

    Args:
      scorer: Model whose scores are logits or log-probabilities.
      graph: The split graph.
      queries: Queries by triple type, with all tails of each head.
      known_splits: Splits whose facts are no answers.
    """
    known = known_positives(graph, known_splits)
    bins: dict[TripleType, tuple[ConfidenceBin, ...]] = {}
    for triple_type, pairs in queries.items():
        heads = np.unique(pairs.heads)
        if not len(heads):
            bins[triple_type] = ()
            continue
        probability, answers = best_answers(scorer, triple_type, heads, known[triple_type])
        is_fact = are_facts(pairs, heads, answers)
        real = probability.ravel() >= 0  # a head may have fewer candidates
        bins[triple_type] = fit_confidence(probability.ravel()[real], is_fact.ravel()[real])
    return bins
