"""Hub: every node type is mapped to the embedding space of one type and compared there.

This is the idea of ImageBind in closed form: the modality with most facts is the hub, and two other
modalities, which are never paired while fitting, are compared through it.

References:
  Girdhar et al., "ImageBind: One Embedding Space To Bind Them All", CVPR 2023.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from bridge_jax.data.embedding_tables import l2_normalise
from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.ridge import PENALTIES, fit_ridge
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import (
    select_by_mrr,
    transform_tables,
    validation_queries,
)


class Hub:
    """Cosine in the standardised embedding space of the hub type; relations are ignored.

    Each other node type has one ridge map to the hub, fitted on all its training facts with the
    hub: `ridge` with all relations pooled. The penalty is selected on the validation queries from
    the type to the hub. A type without such facts scores 0 everywhere.

    Attributes:
      hub: Node type with most training pairs as their tail.
      penalties: Selected penalty of each mapped node type.
    """

    name = "hub"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        """Fits the maps.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]` float32.
          train: Training pairs of each triple type.
        """
        num_pairs = dict.fromkeys(graph.node_types, 0)
        for triple_type, pairs in train.items():
            num_pairs[triple_type.tail] += len(pairs.tails)
        self.hub = max(num_pairs, key=lambda name: num_pairs[name])
        x = transform_tables(graph, tables, "standardise")
        target = l2_normalise(x[self.hub])
        validation = validation_queries(graph)
        self.penalties: dict[str, float] = {}
        self._mapped: dict[str, Array] = {self.hub: jnp.asarray(target)}
        for name in (n for n in tables if n != self.hub):
            triple_types = [k for k in train if (k.head, k.tail) == (name, self.hub)]
            pairs = _concatenate([train[k] for k in triple_types])
            if not len(pairs.heads):
                self._mapped[name] = jnp.zeros((len(x[name]), target.shape[1]))
                continue
            maps = fit_ridge(x[name], target, pairs, PENALTIES)
            candidates = {
                penalty: l2_normalise(x[name] @ np.asarray(w) + np.asarray(b))
                for penalty, (w, b) in maps.items()
            }
            largest = max(triple_types, key=lambda k: len(validation[k][0].heads))
            best = select_by_mrr(
                PENALTIES, partial(self._scorer, candidates), largest, *validation[largest]
            )
            self.penalties[name], self._mapped[name] = best, jnp.asarray(candidates[best])

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        return _dot(
            self._mapped[triple_type.head], jnp.asarray(heads), self._mapped[triple_type.tail]
        )

    def _scorer(self, candidates: Mapping[float, np.ndarray], penalty: float) -> Scorer:
        """Returns the model with the heads mapped under one penalty."""
        mapped = jnp.asarray(candidates[penalty])
        return lambda triple_type, heads: _dot(
            mapped, jnp.asarray(heads), self._mapped[triple_type.tail]
        )


def _concatenate(pairs: list[Pairs]) -> Pairs:
    empty = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    return Pairs(*(np.concatenate(ids) for ids in zip(*(pairs or [empty]), strict=True)))


@jax.jit
def _dot(heads: Array, rows: Array, tails: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return heads[rows] @ tails.T
