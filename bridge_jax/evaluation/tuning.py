"""Selection of hyperparameters on the validation split, for baselines and rerankers."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from bridge_jax.data.embedding_tables import apply_transform, fit_transform
from bridge_jax.data.graph import Graph, Known, Pairs, TripleType, known_positives
from bridge_jax.evaluation.ranking import Scorer, rank

Setting = TypeVar("Setting")
# Temperatures of kNN votes; the first one is used if there is no validation query.
KNN_TEMPERATURES = (0.06, 0.03, 0.12, 0.25, 1.0)


def transform_tables(
    graph: Graph, tables: Mapping[str, np.ndarray], transform: str
) -> dict[str, Float32[np.ndarray, "count dim"]]:
    """Applies an embedding transform to each table, fitted on the training nodes.

    Args:
      graph: The split graph.
      tables: Embeddings by node type, `[nodes, dim]`.
      transform: One of `bridge_jax.data.embedding_tables.TRANSFORMS`.
    """
    return {
        name: apply_transform(x, *fit_transform(x, graph.nodes_to_fit_on(name), transform))
        for name, x in tables.items()
    }


def validation_queries(
    graph: Graph, num_heads: int = 256, seed: int = 0
) -> dict[TripleType, tuple[Pairs, Known]]:
    """Samples validation queries of each triple type.

    Args:
      graph: The split graph.
      num_heads: Maximum number of heads per triple type, default 256. All queries of a sampled head
        are kept.
      seed: Seed of the sample, default 0.

    Returns:
      Queries and the known positives to filter, by triple type. Test facts are not filtered: that
      would reveal which of the candidates are test facts.
    """
    known = known_positives(graph, ("train", "validation"))
    samples = {}
    for triple_type, (heads, tails) in graph.queries("validation").items():
        unique = np.unique(heads)
        sampled = np.random.default_rng(seed).permutation(unique)[:num_heads]
        keep = np.isin(heads, sampled)
        samples[triple_type] = Pairs(heads[keep], tails[keep]), known[triple_type]
    return samples


def select_by_mrr(
    settings: Sequence[Setting],
    make_scorer: Callable[[Setting], Scorer],
    triple_type: TripleType,
    queries: Pairs,
    known: Known,
) -> Setting:
    """Returns the setting with the highest MRR; the first one in a tie or without queries.

    Args:
      settings: Settings to select from.
      make_scorer: Function that returns the model under a setting.
      triple_type: Triple type of the queries.
      queries: Validation queries.
      known: Known positives to filter.
    """
    if not len(queries.heads):
        return settings[0]
    mrr = [
        np.mean(1 / rank(make_scorer(setting), triple_type, queries, known).realistic)
        for setting in settings
    ]
    return settings[int(np.argmax(mrr))]
