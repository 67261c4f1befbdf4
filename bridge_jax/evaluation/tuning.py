"""What the fitted baselines share: unit-length embeddings, and a choice made on validation."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from bridge_jax.data.embedding_tables import fit_transform, transformed
from bridge_jax.data.graph import Graph, Known, Pairs, TripleType, known_positives
from bridge_jax.evaluation.ranking import Scorer, rank

Setting = TypeVar("Setting")


def prepared(
    graph: Graph, tables: Mapping[str, np.ndarray], transform: str
) -> dict[str, Float32[np.ndarray, "count dim"]]:
    """Tables transformed as `bridge_jax.data.embedding_tables` does, fitted on the training nodes."""
    return {
        name: transformed(x, *fit_transform(x, graph.seen_nodes(name), transform))
        for name, x in tables.items()
    }


def unit(x: Float32[np.ndarray, "count dim"]) -> Float32[np.ndarray, "count dim"]:
    """Rows scaled to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def validation_queries(
    graph: Graph, heads: int = 256, seed: int = 0
) -> dict[TripleType, tuple[Pairs, Known]]:
    """Validation queries of at most some heads of each triple type, and what to filter.

    Test facts are not filtered: knowing which answers are test facts is knowing some of the test.
    """
    known = known_positives(graph, ("train", "validation"))
    out = {}
    for triple_type, (asked, tails) in graph.queries("validation").items():
        unique = np.unique(asked)
        chosen = np.random.default_rng(seed).permutation(unique)[:heads]
        keep = np.isin(asked, chosen)
        out[triple_type] = Pairs(asked[keep], tails[keep]), known[triple_type]
    return out


def select_by_mrr(
    settings: Sequence[Setting],
    scorer: Callable[[Setting], Scorer],
    triple_type: TripleType,
    queries: Pairs,
    known: Known,
) -> Setting:
    """Pick the setting with the highest MRR on some queries.

    Args:
      settings: candidates; the first is taken when there is no query, and in a tie.
      scorer: the model under a setting.
      triple_type: the triple type.
      queries: validation queries.
      known: known positives to filter.
    """
    if not len(queries.heads):
        return settings[0]
    mrr = [np.mean(1 / rank(scorer(s), triple_type, queries, known).realistic) for s in settings]
    return settings[int(np.argmax(mrr))]
