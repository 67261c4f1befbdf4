"""Evaluate a trained bridge beside its rivals.

    python -m bridge_jax.evaluate --workdir runs/demo

Writes eval/<split>/{results.json,results.csv,results.md,results.png} in the workdir.
"""

import numpy as np

from bridge_jax.graph import Pairs, TripleType
from bridge_jax.model import Params
from bridge_jax.ranking import Ranks, Scorer, rank
from bridge_jax.run import Setup


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
    for kind, queries in setup.graph.queries(split).items():
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


def validate(setup: Setup, params: Params) -> dict[str, float]:
    """Macro-averaged filtered metrics on a sample of the validation queries."""
    ranks = rank_all(
        setup.scorer(params), setup, "validation", setup.config.evaluate.validation_queries
    )
    realistic = [r.realistic for r in ranks.values()]
    return {
        "mrr": float(np.mean([(1 / r).mean() for r in realistic])),
        "hits@10": float(np.mean([(r <= 10).mean() for r in realistic])),
    }
