"""Retrieval: rank the true tail of every held-out query among all nodes of its type."""

from collections.abc import Iterator

import numpy as np

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.evaluation.ranking import Ranks, Scorer, rank
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer


class Retrieval:
    """Filtered macro MRR and Hits@10, and the MRR of each task.

    While training (split `validation`) a sample of the queries is asked, as many a triple type as
    `evaluate.validation_queries` says.
    """

    def __init__(self, experiment: Experiment, split: str) -> None:
        self._experiment, self._split = experiment, split
        limit = experiment.config.evaluate.validation_queries
        self._limit = limit if split == "validation" else None

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `mrr`, `hits@10`, and `mrr: <task>`."""
        ranks = rank_all(scorer, self._experiment, self._split, self._limit)
        realistic = {triple_type: r.realistic for triple_type, r in ranks.items()}
        yield "mrr", float(np.mean([(1 / r).mean() for r in realistic.values()]))
        yield "hits@10", float(np.mean([(r <= 10).mean() for r in realistic.values()]))
        for triple_type, r in realistic.items():
            yield f"mrr: {triple_type}", float((1 / r).mean())


def rank_all(
    scorer: Scorer, experiment: Experiment, split: str, limit: int | None = None
) -> dict[TripleType, Ranks]:
    """Rank the queries of a split, triple type by triple type.

    Args:
      scorer: the model.
      setup: of the run.
      split: `validation` or `test`.
      limit: at most about so many queries a triple type: evenly spaced heads.
    """
    out = {}
    known = experiment.known if split == "test" else experiment.known_before_test
    for triple_type, queries in experiment.queries[split].items():
        chosen = subsample_queries(queries, limit) if limit else queries
        if len(chosen.heads):
            block = experiment.config.evaluate.block
            out[triple_type] = rank(scorer, triple_type, chosen, known[triple_type], block=block)
    return out


def subsample_queries(queries: Pairs, limit: int) -> Pairs:
    """Keep every n-th head with all its tails, so that about `limit` queries are left."""
    every = -(-len(queries.heads) // limit)
    _, number = np.unique(queries.heads, return_inverse=True)
    keep = number % max(every, 1) == 0
    return Pairs(queries.heads[keep], queries.tails[keep])
