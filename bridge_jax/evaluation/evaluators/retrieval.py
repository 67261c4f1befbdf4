"""Retrieval: ranks the true tail of every held-out query among all nodes of its type."""

from collections.abc import Iterator

import numpy as np

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.evaluation.ranking import Ranks, Scorer, has_choice, rank
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer


class Retrieval:
    """Filtered macro MRR and Hits@10 over the tasks with a choice, and the MRR of each task.

    On the validation split a sample of the queries is ranked, about
    `evaluate.validation_queries` per triple type.
    """

    name = "retrieval"

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Stores the experiment and the split (`validation` or `test`)."""
        self._experiment, self._split = experiment, split
        limit = experiment.config.evaluate.validation_queries
        self._limit = limit if split == "validation" else None

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yields `mrr`, `hits@10`, and `mrr: <task>`."""
        ranks = rank_split(scorer, self._experiment, self._split, self._limit)
        with_choice = [r for r in ranks.values() if has_choice(r)] or ranks.values()
        in_mean = [r.realistic for r in with_choice]
        yield "mrr", float(np.mean([(1 / r).mean() for r in in_mean]))
        yield "hits@10", float(np.mean([(r <= 10).mean() for r in in_mean]))
        for triple_type, r in ranks.items():
            yield f"mrr: {triple_type}", float((1 / r.realistic).mean())


def rank_split(
    scorer: Scorer, experiment: Experiment, split: str, limit: int | None = None
) -> dict[TripleType, Ranks]:
    """Ranks the queries of a split.

    Args:
      scorer: The model.
      experiment: Dataset and config of the run.
      split: `validation` or `test`.
      limit: Approximate maximum number of queries per triple type; default: all.

    Returns:
      Ranks of every triple type that has a query.
    """
    ranks = {}
    known = experiment.known if split == "test" else experiment.known_before_test
    for triple_type, queries in experiment.queries[split].items():
        sample = subsample_queries(queries, limit) if limit else queries
        if len(sample.heads):
            block = experiment.config.evaluate.block
            ranks[triple_type] = rank(scorer, triple_type, sample, known[triple_type], block=block)
    return ranks


def subsample_queries(queries: Pairs, limit: int) -> Pairs:
    """Keeps every n-th head with all its tails, so that about `limit` queries remain."""
    step = -(-len(queries.heads) // limit)
    _, number = np.unique(queries.heads, return_inverse=True)
    keep = number % max(step, 1) == 0
    return Pairs(queries.heads[keep], queries.tails[keep])
