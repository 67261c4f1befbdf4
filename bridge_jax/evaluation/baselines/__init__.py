"""Closed-form models that every table of results stands beside.

A baseline is a class built from (graph, tables, training pairs); its instances are scorers, as
`ranking.rank` takes them. `tables` holds float32 `[nodes, dim]` by node type, standardised or not.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge_jax.registry import LazyRegistry

if TYPE_CHECKING:
    from bridge_jax.evaluation.ranking import Scorer

BASELINES: "LazyRegistry[Callable[..., Scorer]]" = LazyRegistry(
    {
        "random": "bridge_jax.evaluation.baselines.random:Random",
        "popularity": "bridge_jax.evaluation.baselines.popularity:Popularity",
        "ridge": "bridge_jax.evaluation.baselines.ridge:Ridge",
        "head_knn": "bridge_jax.evaluation.baselines.head_knn:Nearest",
        "tail_knn": "bridge_jax.evaluation.baselines.tail_knn:Similar",
        "shuffled": "bridge_jax.evaluation.baselines.shuffled:Shuffled",
        "hub": "bridge_jax.evaluation.baselines.hub:Central",
    }
)
# Embeddings trained elsewhere; their scores are in `bridge_jax.evaluation.baselines.kge`.
EMBEDDING_MODELS = ("TransE", "TransH", "TransD", "TransR", "DistMult", "ComplEx", "RotatE")
