"""Cosine k-nearest neighbours whose training facts vote for tails.

`HeadKNN` asks the training heads that are most similar to the query; `TailKNN` asks which tails are
similar to those that the head has. Both give votes, which `bridge_jax.models.fusion` mixes with the
bridge. Their settings are selected in `bridge_jax.evaluation`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from jaxtyping import Array, Float, Float32, Int

from bridge_jax.data.embedding_tables import apply_transform, fit_transform, l2_normalise
from bridge_jax.data.graph import Graph, Pairs, TripleType
from bridge_jax.models.scorer import BridgeScorer

NUM_NEIGHBOURS = 50
# Name of each space of frozen embeddings, and the transform of the tables that makes it.
EMBEDDING_SPACES = {"standardised": "standardise", "whitened": "whiten"}
BRIDGED = "bridged"
_BLOCK = 2048  # tails compared at a time


class Setting(NamedTuple):
    """How the neighbours of one triple type are found and weighted.

    Attributes:
      space: Space in which nodes are compared: a key of `EMBEDDING_SPACES`, or `BRIDGED`.
      temperature: Temperature of the softmax over the cosines.
    """

    space: str
    temperature: float


@runtime_checkable
class Space(Protocol):
    """Unit vectors of heads, whose inner products are similarities."""

    def nodes(self, triple_type: TripleType, rows: Int[np.ndarray, " n"]) -> Float32[Array, "n d"]:
        """Returns the vectors of heads of the graph, given their local ids."""

    def embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"]
    ) -> Float32[Array, "n d"]:
        """Returns the vectors of new heads, given their frozen embeddings."""


class EmbeddingSpace:
    """The frozen embeddings after a transform that is fitted on the training nodes."""

    def __init__(self, graph: Graph, tables: Mapping[str, np.ndarray], transform: str) -> None:
        """Stores the tables; a node type is transformed when it is first needed.

        Args:
          graph: The split graph.
          tables: Frozen embeddings by node type, `[nodes, dim]`.
          transform: One of `bridge_jax.data.embedding_tables.TRANSFORMS`.
        """
        self._graph, self._tables, self._transform = graph, tables, transform
        self._vectors: dict[str, Array] = {}
        self._fitted: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def nodes(self, triple_type: TripleType, rows: np.ndarray) -> Array:
        node_type = triple_type.head
        if node_type not in self._vectors:
            x = apply_transform(self._tables[node_type], *self._fit(node_type))
            self._vectors[node_type] = jnp.asarray(l2_normalise(x))
        return self._vectors[node_type][rows]

    def embeddings(self, triple_type: TripleType, x: np.ndarray) -> Array:
        return jnp.asarray(l2_normalise(apply_transform(x, *self._fit(triple_type.head))))

    def _fit(self, node_type: str) -> tuple[np.ndarray, np.ndarray]:
        if node_type not in self._fitted:
            rows = self._graph.nodes_to_fit_on(node_type)
            x = self._tables[node_type]
            self._fitted[node_type] = fit_transform(x, rows, self._transform)
        return self._fitted[node_type]


class BridgedSpace:
    """The queries of a trained bridge."""

    def __init__(self, bridge: BridgeScorer) -> None:
        self._bridge = bridge

    def nodes(self, triple_type: TripleType, rows: np.ndarray) -> Array:
        return self._bridge.heads(triple_type, rows)

    def embeddings(self, triple_type: TripleType, x: np.ndarray) -> Array:
        return self._bridge.bridge_embeddings(triple_type, x)


def embedding_spaces(graph: Graph, tables: Mapping[str, np.ndarray]) -> dict[str, Space]:
    """Returns the spaces of `EMBEDDING_SPACES`.

    Args:
      graph: The split graph; transforms are fitted on its training nodes.
      tables: Frozen embeddings by node type, `[nodes, dim]` float32.
    """
    return {
        name: EmbeddingSpace(graph, tables, transform)
        for name, transform in EMBEDDING_SPACES.items()
    }


class Neighbours(NamedTuple):
    """The nearest candidates of some nodes, best first.

    Attributes:
      rows: Positions among the candidates, `[b, k]`.
      similarity: Cosines, `[b, k]`.
    """

    rows: Int[np.ndarray, "b k"]
    similarity: Float32[np.ndarray, "b k"]

    def weights(self, temperature: float, num_candidates: int) -> scipy.sparse.csr_array:
        """Computes softmax(cosine / temperature) over the neighbours of each node.

        Args:
          temperature: Temperature of the softmax.
          num_candidates: Number of candidates.

        Returns:
          Sparse float32 matrix `[b, candidates]` whose rows sum to 1, or to 0 without neighbours.
        """
        best = self.similarity.max(axis=1, keepdims=True, initial=-1)
        weight = np.exp((self.similarity - best) / np.float32(temperature))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
        num_nodes, k = weight.shape
        indptr = np.arange(num_nodes + 1) * k
        return scipy.sparse.csr_array(
            (weight.ravel(), self.rows.ravel(), indptr), shape=(num_nodes, num_candidates)
        )


def no_neighbours(num_nodes: int) -> Neighbours:
    """Returns an empty list of neighbours for each of some nodes."""
    shape = num_nodes, 0
    return Neighbours(np.zeros(shape, np.int32), np.zeros(shape, np.float32))


def nearest_neighbours(
    queries: Array, keys: Array, query_ids: np.ndarray, key_ids: np.ndarray
) -> Neighbours:
    """Finds the most similar keys of each query; a node is never its own neighbour.

    Args:
      queries: Unit vectors `[b, d]`.
      keys: Unit vectors `[n, d]`, at least one.
      query_ids: Node ids of the queries, `[b]`; -1 for a new node.
      key_ids: Node ids of the keys, `[n]`, ascending.

    Returns:
      At most `NUM_NEIGHBOURS` rows of `keys` for each query.
    """
    row = np.minimum(np.searchsorted(key_ids, query_ids), len(key_ids) - 1)
    own_row = np.where(key_ids[row] == query_ids, row, len(key_ids))
    similarity, rows = _top_k(queries, keys, own_row, min(NUM_NEIGHBOURS, len(key_ids)))
    return Neighbours(np.asarray(rows), np.asarray(similarity))


@partial(jax.jit, static_argnums=3)
def _top_k(queries: Array, keys: Array, own_row: Array, k: int) -> tuple[Array, Array]:
    with jax.default_matmul_precision("highest"):
        similarity = queries @ keys.T
    similarity = similarity.at[jnp.arange(len(queries)), own_row].set(-jnp.inf, mode="drop")
    best, rows = jax.lax.top_k(similarity, k)
    return best, rows


class TrainingHeads(NamedTuple):
    """The training heads of one triple type, ascending, and the tails of each, `[heads, tails]`."""

    ids: np.ndarray
    tails: scipy.sparse.csr_array


class HeadKNN:
    """Votes of the training heads that are most similar to a head, for the tails that they have.

    The neighbours of a head are the 50 training heads with the largest cosine; a head is never its
    own neighbour. A neighbour's weight is softmax(cosine / temperature) over the neighbours.

    Attributes:
      settings: Space and temperature of each triple type.
    """

    def __init__(
        self,
        graph: Graph,
        train: Mapping[TripleType, Pairs],
        spaces: Mapping[str, Space],
        settings: Mapping[TripleType, Setting],
    ) -> None:
        """Stores the facts; neighbours are looked up when they are needed.

        Args:
          graph: The split graph.
          train: Training pairs of each triple type.
          spaces: Spaces in which heads are compared, by name.
          settings: Space and temperature of each triple type.
        """
        self._spaces, self.settings = spaces, dict(settings)
        self._training_heads = {
            triple_type: _training_heads(pairs, graph.counts[graph.type_id(triple_type.tail)])
            for triple_type, pairs in train.items()
        }
        self._cached_keys: dict[str, tuple[TripleType, Array]] = {}

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail of each head; 0 for a tail that no neighbour has."""
        setting = self.settings[triple_type]
        neighbours = self.find_neighbours(triple_type, heads, setting.space)
        return jnp.asarray(self.count_votes(triple_type, neighbours, setting.temperature))

    def votes_of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail of new heads, given their frozen embeddings."""
        setting = self.settings[triple_type]
        neighbours = self.find_neighbours_of_embeddings(triple_type, x, setting.space)
        return jnp.asarray(self.count_votes(triple_type, neighbours, setting.temperature))

    def training_heads(self, triple_type: TripleType) -> TrainingHeads:
        """Returns the candidates for neighbours and their facts."""
        return self._training_heads[triple_type]

    def find_neighbours(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"], space: str
    ) -> Neighbours:
        """Returns the neighbours of heads of the graph among `training_heads`."""
        make_queries = partial(self._spaces[space].nodes, triple_type, heads)
        return self._nearest(triple_type, space, make_queries, heads)

    def find_neighbours_of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"], space: str
    ) -> Neighbours:
        """Returns the neighbours of new heads among `training_heads`."""
        make_queries = partial(self._spaces[space].embeddings, triple_type, x)
        return self._nearest(triple_type, space, make_queries, np.full(len(x), -1))

    def _nearest(
        self,
        triple_type: TripleType,
        space: str,
        make_queries: Callable[[], Array],
        query_ids: np.ndarray,
    ) -> Neighbours:
        """Returns the neighbours of queries; their vectors are made only if there are some."""
        training_heads = self._training_heads[triple_type].ids
        if not len(query_ids) or not len(training_heads):
            return no_neighbours(len(query_ids))
        keys = self._keys(triple_type, space)
        return nearest_neighbours(make_queries(), keys, query_ids, training_heads)

    def count_votes(
        self, triple_type: TripleType, neighbours: Neighbours, temperature: float
    ) -> Float32[np.ndarray, "b nodes"]:
        """Sums the weights of the neighbours that have each tail."""
        tails = self._training_heads[triple_type].tails
        return (neighbours.weights(temperature, tails.shape[0]) @ tails).toarray()

    def _keys(self, triple_type: TripleType, space: str) -> Array:
        """Returns the training heads in a space; cached, as triple types are ranked in turn."""
        if space not in self._cached_keys or self._cached_keys[space][0] != triple_type:
            keys = self._spaces[space].nodes(triple_type, self._training_heads[triple_type].ids)
            self._cached_keys[space] = triple_type, keys
        return self._cached_keys[space][1]


def _training_heads(pairs: Pairs, num_tails: int) -> TrainingHeads:
    heads, rows = np.unique(pairs.heads, return_inverse=True)
    ones = np.ones(len(rows), np.float32)
    return TrainingHeads(
        heads, scipy.sparse.csr_array((ones, (rows, pairs.tails)), shape=(len(heads), num_tails))
    )


class TailKNN:
    """Votes for the tails that are similar to the training tails of the same head.

    With w(t, t') the softmax of cosine / temperature over the 50 training tails t' most similar to
    t (t itself excluded), the vote for t is the sum of w(t, t') over the training facts (h, r, t')
    of the head. This is item-based collaborative filtering; `HeadKNN` is the user-based
    counterpart.

    Attributes:
      settings: Space and temperature of each triple type.

    References:
      Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001.
    """

    def __init__(
        self,
        graph: Graph,
        train: Mapping[TripleType, Pairs],
        spaces: Mapping[str, Space],
        settings: Mapping[TripleType, Setting],
    ) -> None:
        """Stores the facts; neighbours are looked up when they are needed.

        Args:
          graph: The split graph.
          train: Training pairs of each triple type.
          spaces: Spaces in which tails are compared, by name.
          settings: Space and temperature of each triple type.
        """
        self._spaces, self.settings = spaces, dict(settings)
        self._num_tails = {t: graph.counts[graph.type_id(t.tail)] for t in train}
        self._facts = {
            triple_type: _fact_matrix(pairs, triple_type, graph)
            for triple_type, pairs in train.items()
        }
        self._cached_weights: dict[TripleType, scipy.sparse.csr_array] = {}

    def votes(
        self, triple_type: TripleType, heads: Int[np.ndarray, " b"]
    ) -> Float32[Array, "b nodes"]:
        """Returns the votes for every tail; 0 for a tail similar to none of the head's."""
        return jnp.asarray(self.count_votes(triple_type, heads))

    def votes_of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "b dim"]
    ) -> Float32[Array, "b nodes"]:
        """Returns 0 for every tail: new heads have no facts."""
        return jnp.zeros((len(x), self._num_tails[triple_type]), jnp.float32)

    def count_votes(
        self,
        triple_type: TripleType,
        heads: Int[np.ndarray, " b"],
        weights: scipy.sparse.csr_array | None = None,
    ) -> Float32[np.ndarray, "b nodes"]:
        """Sums the weights w(t, t') over the training tails t' of each head.

        Args:
          triple_type: Triple type of the facts.
          heads: Local ids of the heads.
          weights: `w` as `weights_between` returns it; default: that of `settings`.
        """
        facts = self._facts[triple_type][heads]
        if not facts.nnz:  # all heads of an inductive split: no neighbours are needed
            return np.zeros(facts.shape, np.float32)
        return (facts @ (self._selected(triple_type) if weights is None else weights)).toarray()

    def votes_by_fact(
        self, triple_type: TripleType, head: int, tails: Sequence[int]
    ) -> tuple[Int[np.ndarray, " own"], Float32[np.ndarray, "own n"], Float32[Array, "own n"]]:
        """Returns which of a head's own tails vote for some tails.

        Args:
          triple_type: Triple type of the facts.
          head: Local id of the head.
          tails: Local ids of the tails.

        Returns:
          Training tails of the head, their weights w, and their cosines with the tails.
        """
        own = self._facts[triple_type][[head]].indices
        if not len(own):
            empty = np.zeros((0, len(tails)), np.float32)
            return own, empty, jnp.asarray(empty)
        reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        space = self._spaces[self.settings[triple_type].space]
        columns = np.asarray(tails)
        weights = self._selected(triple_type)[own][:, columns].toarray()
        return own, weights, space.nodes(reverse, own) @ space.nodes(reverse, columns).T

    def has_facts(self, triple_type: TripleType, heads: Int[np.ndarray, " b"]) -> bool:
        """Returns whether any of the heads has a training fact."""
        return bool(self._facts[triple_type][heads].nnz)

    def find_neighbours(self, triple_type: TripleType, space: str) -> Neighbours:
        """Returns the nearest training tails of every tail, as local ids; needs one at least."""
        # A space is a function of heads, and tails are the heads of the reverse triple type.
        reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        training_tails = np.unique(self._facts[triple_type].indices)
        keys = self._spaces[space].nodes(reverse, training_tails)
        all_tails = np.arange(self._num_tails[triple_type])
        blocks = [
            nearest_neighbours(
                self._spaces[space].nodes(reverse, tails), keys, tails, training_tails
            )
            for tails in np.split(all_tails, range(_BLOCK, len(all_tails), _BLOCK))
        ]
        rows, similarity = map(np.concatenate, zip(*blocks, strict=True))
        return Neighbours(training_tails[rows], similarity)

    def weights_between(
        self, triple_type: TripleType, neighbours: Neighbours, temperature: float
    ) -> scipy.sparse.csr_array:
        """Returns w as a matrix `[t', t]`."""
        return neighbours.weights(temperature, self._num_tails[triple_type]).T.tocsr()

    def _selected(self, triple_type: TripleType) -> scipy.sparse.csr_array:
        """Returns w of the setting; cached, as triple types are ranked in turn."""
        if triple_type not in self._cached_weights:
            space, temperature = self.settings[triple_type]
            neighbours = self.find_neighbours(triple_type, space)
            self._cached_weights = {
                triple_type: self.weights_between(triple_type, neighbours, temperature)
            }
        return self._cached_weights[triple_type]


def _fact_matrix(pairs: Pairs, triple_type: TripleType, graph: Graph) -> scipy.sparse.csr_array:
    """Returns the training facts as a matrix `[heads, tails]`, over all nodes of both types."""
    shape = tuple(graph.counts[graph.type_id(t)] for t in (triple_type.head, triple_type.tail))
    return scipy.sparse.csr_array((np.ones(len(pairs.heads), np.float32), pairs), shape=shape)
