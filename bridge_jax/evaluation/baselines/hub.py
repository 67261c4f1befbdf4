"""Central modality: every type is mapped into the space of one, and all meet there.

The idea of ImageBind (Girdhar et al., CVPR 2023), in closed form: the modality that most facts
touch is the centre; two others, never paired while fitting, are compared through it.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.ridge import STRENGTHS, fit
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import prepared, select_by_mrr, unit, validation_queries


class Hub:
    """Cosine in the central type's standardised space; the relation is not known.

    Each other type x has one ridge map to the centre, fitted on its training facts with the centre
    whatever their relation: `ridge` with all relations pooled. The strength is chosen on the
    validation queries from the type to the centre. A type without such facts scores 0 everywhere.

    Attributes:
      centre: the type that most training pairs have as tail.
      strengths: of each mapped type.
    """

    name = "hub"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        touched = dict.fromkeys(graph.node_types, 0)
        for triple_type, pairs in train.items():
            touched[triple_type.tail] += len(pairs.tails)
        self.centre = max(touched, key=lambda name: touched[name])
        x = prepared(graph, tables, "standardise")
        target = unit(x[self.centre])
        held = validation_queries(graph)
        self.strengths: dict[str, float] = {}
        self._places: dict[str, Array] = {self.centre: jnp.asarray(target)}
        for name in (n for n in tables if n != self.centre):
            triple_types = [k for k in train if (k.head, k.tail) == (name, self.centre)]
            joined = Pairs(
                *(np.concatenate([train[k][i] for k in triple_types] or [_NONE]) for i in (0, 1))
            )
            if not len(joined.heads):
                self._places[name] = jnp.zeros((len(x[name]), target.shape[1]))
                continue
            maps = fit(x[name], target, joined, STRENGTHS)
            places = {
                s: unit(x[name] @ np.asarray(w) + np.asarray(b)) for s, (w, b) in maps.items()
            }
            asked = max(triple_types, key=lambda k: len(held[k][0].heads))
            best = select_by_mrr(STRENGTHS, partial(self._with, places), asked, *held[asked])
            self.strengths[name], self._places[name] = best, jnp.asarray(places[best])

    def _with(self, places: Mapping[float, np.ndarray], strength: float) -> Scorer:
        place = jnp.asarray(places[strength])
        return lambda triple_type, heads: _dot(
            place, jnp.asarray(heads), self._places[triple_type.tail]
        )

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        return _dot(
            self._places[triple_type.head], jnp.asarray(heads), self._places[triple_type.tail]
        )


_NONE = np.zeros(0, np.int32)


@jax.jit
def _dot(heads: Array, rows: Array, tails: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return heads[rows] @ tails.T
