"""Representations of nodes (raw, projected, bridged), and rankings by several ways of scoring."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.embedding_tables import l2_normalise
from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer, chance_mrr, metrics, rank
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

Vectors = Float32[np.ndarray, "n dim"]


def raw_embeddings(experiment: Experiment, node_type: str, nodes: Int[np.ndarray, " n"]) -> Vectors:
    """Returns the frozen embeddings of some nodes (local ids) as they are stored."""
    return np.asarray(experiment.tables[node_type].stored[nodes], np.float32)


def model_inputs(experiment: Experiment, node_type: str, raw: Vectors) -> jax.Array:
    """Transforms raw embeddings to what the model reads for a node type."""
    return jnp.asarray(experiment.tables[node_type].transform(raw))


def representations(
    experiment: Experiment,
    scorer: BridgeScorer,
    node_type: str,
    nodes: Int[np.ndarray, " n"],
    triple_types: Mapping[str, TripleType],
) -> dict[str, Vectors]:
    """Returns several representations of some nodes of one type.

    Args:
      experiment: Dataset and config of the run.
      scorer: The bridge.
      node_type: Type of the nodes.
      nodes: Local ids.
      triple_types: Triple types to bridge the nodes by, by the name of the representation.

    Returns:
      `raw`, as stored; `projected`, of unit length; and the bridged vectors by name.
    """
    raw = raw_embeddings(experiment, node_type, nodes)
    x = model_inputs(experiment, node_type, raw)
    bridged = {
        name: np.asarray(scorer.queries(triple_type, x))
        for name, triple_type in triple_types.items()
    }
    return {"raw": raw, "projected": np.asarray(scorer.tails(node_type)[nodes]), **bridged}


def cosine(
    heads: Vectors, tails: Float32[np.ndarray, "tails dim"]
) -> Float32[jax.Array, "n tails"]:
    """Computes the cosine of every head with every tail."""
    return jnp.asarray(l2_normalise(heads) @ l2_normalise(tails).T)


def ranking_metrics(
    task: str,
    triple_type: TripleType,
    queries: Pairs,
    known: Known,
    names: Sequence[str],
    scores_by_method: Callable[[np.ndarray], Iterator[tuple[str, jax.Array]]],
) -> Iterator[tuple[str, float]]:
    """Yields `<task> <metric>: <method>` for several methods, and the MRR of a random order.

    Args:
      task: Name of the task.
      triple_type: Triple type of the queries.
      queries: The (head, tail) pairs to rank.
      known: Known positives to filter.
      names: Metrics to yield, as `bridge_jax.evaluation.ranking.metrics` names them.
      scores_by_method: Function from distinct heads (ascending) to the name and the scores
        `[heads, tails]` of each method.
    """
    heads, chance = np.unique(queries.heads), float("nan")
    for method, scores in scores_by_method(heads):
        ranks = rank(_precomputed_scorer(heads, scores), triple_type, queries, known)
        values, chance = metrics(ranks), chance_mrr(ranks.candidates)
        for name in names:
            yield f"{task} {name}: {method}", values[name]
    yield f"{task} mrr: chance", chance


def _precomputed_scorer(
    heads: Int[np.ndarray, " n"], scores: Float32[jax.Array, "n tails"]
) -> Scorer:
    """Returns a scorer that looks up the rows of some heads (ascending)."""
    return lambda _, batch: scores[np.searchsorted(heads, batch)]
