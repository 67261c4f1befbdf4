"""The vectors that a node has: frozen, projected or bridged; and what each way to compare finds."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.evaluation.ranking import Scorer, chance_mrr, metrics, rank
from bridge_jax.evaluation.tuning import unit
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

Vectors = Float32[np.ndarray, "n dim"]


def raw(experiment: Experiment, node_type: str, nodes: Int[np.ndarray, " n"]) -> Vectors:
    """Frozen embeddings as they are stored."""
    return np.asarray(experiment.tables[node_type].stored[nodes], np.float32)


def read(experiment: Experiment, node_type: str, x: Vectors) -> jax.Array:
    """Stored embeddings as the model reads those of a type."""
    return jnp.asarray(experiment.tables[node_type].prepare(x))


def views(
    experiment: Experiment,
    scorer: BridgeScorer,
    node_type: str,
    nodes: Int[np.ndarray, " n"],
    triple_types: Mapping[str, TripleType],
) -> dict[str, Vectors]:
    """The vectors of some nodes of one type.

    Args:
      setup: of the run.
      scorer: the bridge.
      node_type: whose nodes.
      nodes: local ids.
      kinds: triple types with that head, each with the name of its view.

    Returns:
      `raw`, as stored; `projected`, unit length; and for each of `kinds` the bridged ones.
    """
    stored = raw(experiment, node_type, nodes)
    x = read(experiment, node_type, stored)
    bridged = {
        name: np.asarray(scorer.queries(triple_type, x))
        for name, triple_type in triple_types.items()
    }
    return {"raw": stored, "projected": np.asarray(scorer.tails(node_type)[nodes]), **bridged}


def cosine(
    heads: Vectors, tails: Float32[np.ndarray, "tails dim"]
) -> Float32[jax.Array, "n tails"]:
    """Cosine of every head with every tail."""
    return jnp.asarray(unit(heads) @ unit(tails).T)


def ranking_values(
    task: str,
    triple_type: TripleType,
    asked: Pairs,
    known: Known,
    names: Sequence[str],
    ways: Callable[[np.ndarray], Iterator[tuple[str, jax.Array]]],
) -> Iterator[tuple[str, float]]:
    """Yield `<task> <figure>: <way>` for several ways to score, and the MRR of a random order.

    Args:
      task: its name.
      triple_type: its triple type.
      asked: its queries.
      known: its known positives, which are filtered.
      names: of `ranking.metrics`, those to yield.
      ways: from distinct heads, ascending, to names and scores `[heads, tails]`.
    """
    heads, chance = np.unique(asked.heads), float("nan")
    for way, scores in ways(heads):
        ranks = rank(_looked_up(heads, scores), triple_type, asked, known)
        found, chance = metrics(ranks), chance_mrr(ranks.candidates)
        for name in names:
            yield f"{task} {name}: {way}", found[name]
    yield f"{task} mrr: chance", chance


def _looked_up(heads: Int[np.ndarray, " n"], scores: Float32[jax.Array, "n tails"]) -> Scorer:
    """A scorer that knows some heads alone: ascending, a row of scores each."""
    return lambda _, rows: scores[np.searchsorted(heads, rows)]
