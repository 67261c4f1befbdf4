"""Similar: a head is answered with the tails most like those that it has in training."""

from collections.abc import Mapping
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Float32, Int

from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.evaluation.baselines.head_knn import (
    SPACES,
    TEMPERATURES,
    TINY,
    Near,
    frozen,
    nearest,
)
from bridge_jax.evaluation.baselines.popularity import log_counts
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.evaluation.tuning import select_by_mrr, validation_queries

# Tails compared at a time.
_BLOCK = 2048


class TailKNN:
    """Tails weighted by how like they are to the head's own training tails.

    With w(t, t') the softmax of cosine / temperature over the 50 training tails t' most similar to
    t, itself left out, a tail's score is the sum of w(t, t') over the head's training facts
    (h, r, t'). It is `Nearest` seen from the other end: collaborative filtering by items, where
    that is by users. A head that training has not seen has no tails, and popularity answers for
    it. Space and temperature of each triple type are chosen on the validation split by MRR.

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001.
    """

    name = "tail_knn"

    def __init__(
        self,
        graph: Graph,
        tables: Mapping[str, np.ndarray],
        train: Mapping[TripleType, Pairs],
    ) -> None:
        """Choose the settings on the validation split.

        Args:
          graph: the split graph.
          tables: frozen embeddings, `[count, dim]` float32 by node type.
          train: training facts.
        """
        self._spaces = frozen(graph, tables)
        self._popularity = log_counts(train, graph)
        self._own = {
            triple_type: _own(pairs, triple_type, graph) for triple_type, pairs in train.items()
        }
        self._held: dict[TripleType, scipy.sparse.csr_array] = {}
        self.settings: dict[TripleType, tuple[str, float]] = {}
        for triple_type, (queries, known) in validation_queries(graph).items():
            self.settings[triple_type] = next(iter(SPACES)), TEMPERATURES[0]
            if self._own[triple_type][queries.heads].nnz:
                settings = list(product(SPACES, TEMPERATURES))
                near = {space: self._near(triple_type, space) for space in SPACES}
                likeness = {(s, t): self._likeness(triple_type, near[s], t) for s, t in settings}
                self.settings[triple_type] = select_by_mrr(
                    settings, partial(self._with, likeness), triple_type, queries, known
                )

    def _with(
        self,
        likeness: Mapping[tuple[str, float], scipy.sparse.csr_array],
        setting: tuple[str, float],
    ) -> Scorer:
        """The model under a setting."""
        return partial(self._score, likeness=likeness[setting])

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        return self._score(triple_type, heads)

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """The scores without popularity: 0 for a tail that is like none of the head's."""
        return jnp.asarray(self._count(triple_type, heads))

    def _score(
        self,
        triple_type: TripleType,
        heads: np.ndarray,
        likeness: scipy.sparse.csr_array | None = None,
    ) -> jax.Array:
        votes = self._count(triple_type, heads, likeness)
        return jnp.asarray(votes + TINY * self._popularity[triple_type])

    def _count(
        self,
        triple_type: TripleType,
        heads: np.ndarray,
        likeness: scipy.sparse.csr_array | None = None,
    ) -> np.ndarray:
        """The votes; heads without a fact, all of an inductive split's, need no neighbours."""
        own = self._own[triple_type][heads]
        if not own.nnz:
            return np.zeros(own.shape, np.float32)
        return (own @ (self._chosen(triple_type) if likeness is None else likeness)).toarray()

    def _chosen(self, triple_type: TripleType) -> scipy.sparse.csr_array:
        """Under the chosen setting; kept, as queries come one triple type after the other."""
        if triple_type not in self._held:
            space, temperature = self.settings[triple_type]
            self._held = {
                triple_type: self._likeness(
                    triple_type, self._near(triple_type, space), temperature
                )
            }
        return self._held[triple_type]

    def _near(self, triple_type: TripleType, space: str) -> Near:
        """Of every tail, the training tails nearest to it; there is one at least."""
        back = TripleType(
            triple_type.tail, triple_type.relation, triple_type.head
        )  # a space looks at heads
        known = np.unique(self._own[triple_type].indices)
        keys = self._spaces[space](back, known)
        every = np.arange(len(self._popularity[triple_type]))
        found = [
            nearest(self._spaces[space](back, part), keys, part, known)
            for part in np.split(every, range(_BLOCK, len(every), _BLOCK))
        ]
        rows, similarity = map(np.concatenate, zip(*found, strict=True))
        return Near(known[rows], similarity)

    def _likeness(
        self, triple_type: TripleType, near: Near, temperature: float
    ) -> scipy.sparse.csr_array:
        """w, by t' and t."""
        return near.weights(temperature, len(self._popularity[triple_type])).T.tocsr()


def _own(pairs: Pairs, triple_type: TripleType, graph: Graph) -> scipy.sparse.csr_array:
    """The training tails of every head."""
    count = dict(zip(graph.node_types, graph.counts, strict=True))
    ones = np.ones(len(pairs.heads), np.float32)
    return scipy.sparse.csr_array(
        (ones, pairs), shape=(count[triple_type.head], count[triple_type.tail])
    )
