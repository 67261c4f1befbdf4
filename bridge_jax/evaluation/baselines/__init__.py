"""Baselines: models without gradient training that are evaluated beside every bridge.

A baseline is a class that is built from `(graph, tables, train)`; its instances are scorers, as
`bridge_jax.evaluation.ranking.rank` takes them. `graph` is the split graph, `tables` maps each node
type to its frozen embeddings `[nodes, dim]` (float32), and `train` maps each triple type to its
training pairs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge_jax.registry import LazyRegistry

if TYPE_CHECKING:
    from bridge_jax.evaluation.ranking import Scorer

BASELINES: "LazyRegistry[Callable[..., Scorer]]" = LazyRegistry(
    {
        "random": f"{__name__}.random:Random",
        "popularity": f"{__name__}.popularity:Popularity",
        "ridge": f"{__name__}.ridge:Ridge",
        "head_knn": f"{__name__}.head_knn:HeadKNN",
        "tail_knn": f"{__name__}.tail_knn:TailKNN",
        "shuffled": f"{__name__}.shuffled:Shuffled",
        "hub": f"{__name__}.hub:Hub",
    }
)
# Knowledge-graph embedding models: trained by `tools.train_pykeen`, scored by `kge`.
KGE_MODELS = ("TransE", "TransH", "TransD", "TransR", "DistMult", "ComplEx", "RotatE")
