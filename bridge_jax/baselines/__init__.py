"""Closed-form models that every table of results stands beside.

A baseline is a class built from (graph, tables, training pairs); its instances are scorers, as
`ranking.rank` takes them. `tables` holds float32 `[nodes, dim]` by node type, standardised or not.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge_jax.members import Members

if TYPE_CHECKING:
    from bridge_jax.ranking import Scorer

BASELINES: "Members[Callable[..., Scorer]]" = Members(
    {
        "random": "bridge_jax.baselines.random:Random",
        "popularity": "bridge_jax.baselines.popularity:Popularity",
        "ridge": "bridge_jax.baselines.ridge:Ridge",
        "nearest": "bridge_jax.baselines.nearest:Nearest",
        "similar": "bridge_jax.baselines.similar:Similar",
        "shuffled": "bridge_jax.baselines.shuffled:Shuffled",
        "central": "bridge_jax.baselines.central:Central",
    }
)
# Embeddings trained elsewhere; their scores are in `bridge_jax.baselines.embeddings`.
EMBEDDING_MODELS = ("TransE", "TransH", "TransD", "TransR", "DistMult", "ComplEx", "RotatE")
