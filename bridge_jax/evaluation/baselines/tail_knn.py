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
from bridge_jax.evaluation.tuning import choose, validation

# Tails compared at a time.
_BLOCK = 2048


class Similar:
    """Tails weighted by how like they are to the head's own training tails.

    With w(t, t') the softmax of cosine / temperature over the 50 training tails t' most similar to
    t, itself left out, a tail's score is the sum of w(t, t') over the head's training facts
    (h, r, t'). It is `Nearest` seen from the other end: collaborative filtering by items, where
    that is by users. A head that training has not seen has no tails, and popularity answers for
    it. Space and temperature of each triple type are chosen on the validation split by MRR.

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001.
    """

    name = "similar"

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
        self._own = {kind: _own(pairs, kind, graph) for kind, pairs in train.items()}
        self._held: dict[TripleType, scipy.sparse.csr_array] = {}
        self.settings: dict[TripleType, tuple[str, float]] = {}
        for kind, (queries, known) in validation(graph).items():
            self.settings[kind] = next(iter(SPACES)), TEMPERATURES[0]
            if self._own[kind][queries.heads].nnz:
                settings = list(product(SPACES, TEMPERATURES))
                near = {space: self._near(kind, space) for space in SPACES}
                likeness = {(s, t): self._likeness(kind, near[s], t) for s, t in settings}
                self.settings[kind] = choose(
                    settings, partial(self._with, likeness), kind, queries, known
                )

    def _with(
        self,
        likeness: Mapping[tuple[str, float], scipy.sparse.csr_array],
        setting: tuple[str, float],
    ) -> Scorer:
        """The model under a setting."""
        return partial(self._score, likeness=likeness[setting])

    def __call__(
        self, kind: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        return self._score(kind, heads)

    def votes(self, kind: TripleType, heads: Int[np.ndarray, "b"]) -> Float32[jax.Array, "b nodes"]:
        """The scores without popularity: 0 for a tail that is like none of the head's."""
        return jnp.asarray(self._count(kind, heads))

    def _score(
        self,
        kind: TripleType,
        heads: np.ndarray,
        likeness: scipy.sparse.csr_array | None = None,
    ) -> jax.Array:
        votes = self._count(kind, heads, likeness)
        return jnp.asarray(votes + TINY * self._popularity[kind])

    def _count(
        self,
        kind: TripleType,
        heads: np.ndarray,
        likeness: scipy.sparse.csr_array | None = None,
    ) -> np.ndarray:
        """The votes; heads without a fact, all of an inductive split's, need no neighbours."""
        own = self._own[kind][heads]
        if not own.nnz:
            return np.zeros(own.shape, np.float32)
        return (own @ (self._chosen(kind) if likeness is None else likeness)).toarray()

    def _chosen(self, kind: TripleType) -> scipy.sparse.csr_array:
        """Under the chosen setting; kept, as queries come one triple type after the other."""
        if kind not in self._held:
            space, temperature = self.settings[kind]
            self._held = {kind: self._likeness(kind, self._near(kind, space), temperature)}
        return self._held[kind]

    def _near(self, kind: TripleType, space: str) -> Near:
        """Of every tail, the training tails nearest to it; there is one at least."""
        back = TripleType(kind.tail, kind.relation, kind.head)  # a space looks at heads
        known = np.unique(self._own[kind].indices)
        keys = self._spaces[space](back, known)
        every = np.arange(len(self._popularity[kind]))
        found = [
            nearest(self._spaces[space](back, part), keys, part, known)
            for part in np.split(every, range(_BLOCK, len(every), _BLOCK))
        ]
        rows, similarity = map(np.concatenate, zip(*found, strict=True))
        return Near(known[rows], similarity)

    def _likeness(self, kind: TripleType, near: Near, temperature: float) -> scipy.sparse.csr_array:
        """w, by t' and t."""
        return near.weights(temperature, len(self._popularity[kind])).T.tocsr()


def _own(pairs: Pairs, kind: TripleType, graph: Graph) -> scipy.sparse.csr_array:
    """The training tails of every head."""
    count = dict(zip(graph.node_types, graph.counts, strict=True))
    ones = np.ones(len(pairs.heads), np.float32)
    return scipy.sparse.csr_array((ones, pairs), shape=(count[kind.head], count[kind.tail]))
