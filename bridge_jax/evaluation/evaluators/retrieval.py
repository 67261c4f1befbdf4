"""Retrieval: rank the true tail of every held-out query among all nodes of its type."""

from collections.abc import Iterator

import numpy as np

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.evaluation.ranking import Ranks, Scorer, rank
from bridge_jax.experiment.experiment import Setup
from bridge_jax.models.scorer import BridgeScorer


class Retrieval:
    """Filtered macro MRR and Hits@10, and the MRR of each task.

    While training (split `validation`) a sample of the queries is asked, as many a triple type as
    `evaluate.validation_queries` says.
    """

    def __init__(self, setup: Setup, split: str) -> None:
        self._setup, self._split = setup, split
        limit = setup.config.evaluate.validation_queries
        self._limit = limit if split == "validation" else None

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `mrr`, `hits@10`, and `mrr: <task>`."""
        ranks = rank_all(scorer, self._setup, self._split, self._limit)
        realistic = {kind: r.realistic for kind, r in ranks.items()}
        yield "mrr", float(np.mean([(1 / r).mean() for r in realistic.values()]))
        yield "hits@10", float(np.mean([(r <= 10).mean() for r in realistic.values()]))
        for kind, r in realistic.items():
            yield f"mrr: {kind}", float((1 / r).mean())


def rank_all(
    scorer: Scorer, setup: Setup, split: str, limit: int | None = None
) -> dict[TripleType, Ranks]:
    """Rank the queries of a split, triple type by triple type.

    Args:
      scorer: the model.
      setup: of the run.
      split: `validation` or `test`.
      limit: at most about so many queries a triple type: evenly spaced heads.
    """
    out = {}
    known = setup.known if split == "test" else setup.known_before_test
    for kind, queries in setup.queries[split].items():
        chosen = thin(queries, limit) if limit else queries
        if len(chosen.heads):
            block = setup.config.evaluate.block
            out[kind] = rank(scorer, kind, chosen, known[kind], block=block)
    return out


def thin(queries: Pairs, limit: int) -> Pairs:
    """Keep every n-th head with all its tails, so that about `limit` queries are left."""
    every = -(-len(queries.heads) // limit)
    _, number = np.unique(queries.heads, return_inverse=True)
    keep = number % max(every, 1) == 0
    return Pairs(queries.heads[keep], queries.tails[keep])
