"""Why a tail is an answer: the parts of the fusion that give its probability, and their facts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.data.manifest import SPLITS
from bridge_jax.models.fusion import Evidence, Fusion, shares
from bridge_jax.models.knn import HeadKNN, Neighbours, TailKNN
from bridge_jax.retrieval.explanations import Explanation, NamedNode
from bridge_jax.retrieval.node_names import NodeIndex

MAX_NEIGHBOURS = 5
MAX_PATHS = 5


class SimilarNode(NamedTuple):
    """A node that resembles the query, or a tail that resembles the answer, with its fact.

    Attributes:
      node: Row of the node in the table of its type.
      similarity: Cosine.
      weight: Share of the space's votes for the answer that it gives.
      fact: Head, relation and tail of the training fact that votes, e.g. `("Q1", "target", "D2")`,
        as rows of their tables and the name of the relation.
    """

    node: int
    similarity: float
    weight: float
    fact: tuple[int, str, int]


class Step(NamedTuple):
    """One known fact of a path, in the direction of the path.

    Attributes:
      relation: Name of the relation.
      node_type: Node type that it leads to.
      node: Row of the node in the table of its type.
      split: Split of the fact.
    """

    relation: str
    node_type: str
    node: int
    split: str


class Reasons(NamedTuple):
    """What speaks for one answer.

    Attributes:
      shares: Share of the answer's probability that comes from each part: `bridge`, and each space
        of the fusion; they sum to 1.
      similar: For each space with votes for the answer, the nodes that give them, largest weight
        first.
      paths: Paths of at most two known facts from the query to the answer.
    """

    shares: dict[str, float]
    similar: dict[str, list[SimilarNode]]
    paths: list[tuple[Step, ...]]


def shares_of_parts(
    evidence: Evidence, fusion: Fusion, triple_type: TripleType, tails: Sequence[int]
) -> list[dict[str, float]]:
    """Splits the probability of some tails of one query into the parts of the fusion.

    Args:
      evidence: Evidence of one query.
      fusion: The fusion.
      triple_type: Triple type of the query.
      tails: Rows of the tails.

    Returns:
      For each tail the share of each part.
    """
    parts = shares(evidence, fusion.weights[triple_type])[:, 0, list(tails)].astype(np.float64)
    fractions = parts / np.maximum(parts.sum(axis=0), 1e-300)
    names = ("bridge", *fusion.spaces)
    return [dict(zip(names, column.tolist(), strict=True)) for column in fractions.T]


def similar_heads(
    voter: HeadKNN, triple_type: TripleType, neighbours: Neighbours, tails: Sequence[int]
) -> list[list[SimilarNode]]:
    """Returns the training heads near a query that have each of some tails.

    Args:
      voter: Voter of the space.
      triple_type: Triple type of the query.
      neighbours: Neighbours of the one query.
      tails: Rows of the tails.
    """
    training = voter.training_heads(triple_type)
    temperature = voter.settings[triple_type].temperature
    weights = neighbours.weights(temperature, training.tails.shape[0]).toarray()[0]
    rows = neighbours.rows[0]
    columns = training.tails[rows].tocsc()
    found = []
    for tail in tails:
        voting = columns[:, [tail]].nonzero()[0]
        total = max(float(weights[rows[voting]].sum()), 1e-12)
        found.append(
            [
                SimilarNode(
                    int(training.ids[rows[i]]),
                    float(neighbours.similarity[0, i]),
                    float(weights[rows[i]]) / total,
                    (int(training.ids[rows[i]]), triple_type.relation, tail),
                )
                for i in sorted(voting.tolist())[:MAX_NEIGHBOURS]
            ]
        )
    return found


def similar_tails(
    voter: TailKNN, triple_type: TripleType, head: int, tails: Sequence[int]
) -> list[list[SimilarNode]]:
    """Returns the training tails of a head that resemble each of some tails.

    Args:
      voter: Voter of the space.
      triple_type: Triple type of the query.
      head: Row of the head.
      tails: Rows of the tails.
    """
    own, votes, similarity = voter.votes_by_fact(triple_type, head, tails)
    found = []
    for column, _ in enumerate(tails):
        order = np.argsort(-votes[:, column])[:MAX_NEIGHBOURS]
        total = max(float(votes[:, column].sum()), 1e-12)
        found.append(
            [
                SimilarNode(
                    int(own[i]),
                    float(similarity[i, column]),
                    float(votes[i, column]) / total,
                    (head, triple_type.relation, int(own[i])),
                )
                for i in order.tolist()
                if votes[i, column] > 0
            ]
        )
    return found


class FactIndex:
    """Known facts by node, in both directions, for paths."""

    def __init__(self, graph: Graph, splits: Sequence[str] = SPLITS) -> None:
        """Indexes facts.

        Args:
          graph: The split graph.
          splits: Splits whose facts are known; default: all.
        """
        self._graph = graph
        self._splits = tuple(split for split in splits if split in graph.facts)
        heads, relations, tails, split_ids = [], [], [], []
        for i, split in enumerate(self._splits):
            facts = graph.facts[split]
            heads += [facts.head, facts.tail]
            tails += [facts.tail, facts.head]
            relations += [facts.relation, facts.relation]
            split_ids += [np.full(2 * len(facts.head), i, np.int8)]
        head = np.concatenate(heads)
        order = np.argsort(head, kind="stable")
        self._tail = np.concatenate(tails)[order]
        self._relation = np.concatenate(relations)[order]
        self._split = np.concatenate(split_ids)[order]
        num_nodes = int(graph.offsets[-1])
        self._indptr = np.searchsorted(head[order], np.arange(num_nodes + 1))

    def paths(self, start: int, end: int, limit: int = MAX_PATHS) -> list[tuple[Step, ...]]:
        """Returns paths of at most two facts between two nodes, given their global ids.

        Shorter paths come first, then those over nodes with fewer facts, which say more.
        """
        direct = [(step,) for step in self._steps(start) if self._target(step) == end]
        first = {self._target(step): step for step in self._steps(start)}
        second = {self._target(step): step for step in self._steps(end)}
        middles = sorted((first.keys() & second.keys()) - {start, end}, key=self._degree)
        two = []
        for middle in middles[:limit]:
            back = second[middle]
            node_type, node = self._local(end)
            two.append((first[middle], Step(back.relation, node_type, node, back.split)))
        return [*dict.fromkeys(direct), *two][:limit]

    def _degree(self, node: int) -> int:
        return int(self._indptr[node + 1] - self._indptr[node])

    def _steps(self, node: int) -> Iterator[Step]:
        for i in range(int(self._indptr[node]), int(self._indptr[node + 1])):
            node_type, row = self._local(int(self._tail[i]))
            relation = self._graph.relations[int(self._relation[i])]
            yield Step(relation, node_type, row, self._splits[int(self._split[i])])

    def _target(self, step: Step) -> int:
        return int(self._graph.offsets[self._graph.type_id(step.node_type)]) + step.node

    def _local(self, node: int) -> tuple[str, int]:
        type_id = int(np.searchsorted(self._graph.offsets, node, side="right")) - 1
        return self._graph.node_types[type_id], node - int(self._graph.offsets[type_id])


def name_reasons(
    triple_type: TripleType,
    query: str,
    tail: int,
    reasons: Reasons,
    indexes: Mapping[str, NodeIndex],
) -> Explanation:
    """Replaces rows by ids and names.

    Args:
      triple_type: Triple type of the query.
      query: Name of the query.
      tail: Row of the answer.
      reasons: What speaks for it.
      indexes: Ids and names of the nodes, by node type.
    """
    tails = indexes[triple_type.tail]
    similar = {}
    for space, nodes in reasons.similar.items():
        index = tails if space == "tails" else indexes[triple_type.head]
        similar[space] = [
            NamedNode(index.ids[n.node], index.names[n.node], n.similarity, n.weight) for n in nodes
        ]
    paths = [_name_path(query, path, indexes) for path in reasons.paths]
    return Explanation(tails.ids[tail], tails.names[tail], reasons.shares, similar, paths)


def _name_path(query: str, path: Sequence[Step], indexes: Mapping[str, NodeIndex]) -> list[str]:
    texts = [query]
    for step in path:
        relation = step.relation if step.split == "train" else f"{step.relation} [{step.split}]"
        texts += [relation, indexes[step.node_type].names[step.node]]
    return texts
