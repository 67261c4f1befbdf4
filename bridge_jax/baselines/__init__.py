"""Closed-form models that every table of results stands beside.

A baseline is a class built from (graph, tables, training pairs); its instances are scorers, as
`ranking.rank` takes them. `tables` holds float32 `[nodes, dim]` by node type, standardised or not.
"""

from collections.abc import Callable

from bridge_jax.baselines.central import Central
from bridge_jax.baselines.nearest import Nearest
from bridge_jax.baselines.popularity import Popularity
from bridge_jax.baselines.random import Random
from bridge_jax.baselines.ridge import Ridge
from bridge_jax.baselines.shuffled import Shuffled
from bridge_jax.ranking import Scorer

BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": Random,
    "popularity": Popularity,
    "ridge": Ridge,
    "nearest": Nearest,
    "shuffled": Shuffled,
    "central": Central,
}
