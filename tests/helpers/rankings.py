"""Pairs and scorers with known values, for tests of rankings."""

import jax.numpy as jnp
import numpy as np

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer


def make_pairs(*rows: tuple[int, int]) -> Pairs:
    """Returns (head, tail) rows as pairs."""
    heads, tails = np.array(rows, np.int32).reshape(-1, 2).T
    return Pairs(heads, tails)


def lookup_scorer(scores: np.ndarray | list, name: str = "lookup") -> Scorer:
    """Returns a scorer that reads its scores from a matrix `[heads, tails]`."""

    def scorer(triple_type: TripleType, heads: np.ndarray):
        return jnp.asarray(np.asarray(scores, np.float32)[heads])

    scorer.name = name
    return scorer
