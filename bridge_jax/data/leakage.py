"""Leakage audit: how many facts of a split can be read off the training facts.

A test fact is easy if training has the same fact, its mirror image, or a near-duplicate relation
between the same nodes. It is also easy if its triple type is nearly a Cartesian product, i.e. joins
nearly every head to every tail.

References:
  Toutanova and Chen, "Observed versus latent features for knowledge base and text inference",
    CVSC 2015.
  Akrami et al., "Realistic re-evaluation of knowledge graph completion methods", SIGMOD 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Int64

from bridge_jax.data.graph import Facts, Graph, TripleType

# Two triple types are near-duplicates if they share more than this fraction of their node pairs.
NEAR_DUPLICATE_OVERLAP = 0.5
# A triple type is nearly a Cartesian product above this fraction of all possible node pairs.
CARTESIAN_DENSITY = 0.8


@dataclass(frozen=True)
class LeakageReport:
    """Numbers of directed rows of one split that the training facts reveal.

    A fact that is queried in both directions counts as two rows. `near_duplicate`, `cartesian` and
    `other_relation` leave out the rows that a category above them counts.

    Attributes:
      rows: Number of directed rows of the split.
      exact: Rows that training has in the same direction.
      mirror: Rows that training has in the opposite direction.
      near_duplicate: Rows whose nodes training joins by a near-duplicate relation.
      cartesian: Rows of a triple type that is nearly a Cartesian product, with both nodes in
        training facts of that type.
      other_relation: Rows whose nodes training joins by any other relation; not leakage.
      unseen_node: Rows with a node that has no training fact; not leakage.
    """

    rows: int
    exact: int
    mirror: int
    near_duplicate: int
    cartesian: int
    other_relation: int
    unseen_node: int

    @property
    def has_no_leakage(self) -> bool:
        """Whether training reveals no row of the split."""
        return not (self.exact or self.mirror or self.near_duplicate or self.cartesian)


@dataclass(frozen=True)
class Overlap:
    """Two triple types between the same node types that share node pairs, in either direction.

    Attributes:
      first: One triple type.
      second: The other triple type.
      shared: Number of node pairs that both have.
      jaccard: `shared` over the number of pairs that either has.
      containment: `shared` over the number of pairs of the smaller one.
    """

    first: TripleType
    second: TripleType
    shared: int
    jaccard: float
    containment: float

    @property
    def is_near_duplicate(self) -> bool:
        """Whether the two have more than `NEAR_DUPLICATE_OVERLAP` of their pairs in common."""
        return max(self.jaccard, self.containment) > NEAR_DUPLICATE_OVERLAP


@dataclass(frozen=True)
class Density:
    """Fraction of all possible node pairs that a triple type joins.

    Attributes:
      triple_type: Triple type, in one of its directions.
      facts: Number of distinct node pairs.
      heads: Number of nodes that occur as head.
      tails: Number of nodes that occur as tail; equals `heads` within one node type.
      density: `facts` over `heads * tails`, or over `heads * (heads - 1) / 2` within one node type.
    """

    triple_type: TripleType
    facts: int
    heads: int
    tails: int
    density: float

    @property
    def is_cartesian(self) -> bool:
        """Whether it is nearly a Cartesian product of at least two heads and two tails."""
        return self.density > CARTESIAN_DENSITY and min(self.heads, self.tails) > 1


def node_pairs_by_triple_type(graph: Graph) -> dict[TripleType, Int64[np.ndarray, "pairs"]]:
    """Returns the distinct undirected node pairs of each triple type, over all splits.

    Args:
      graph: Split graph; a directed row and its mirror image count once.

    Returns:
      Sorted keys `low * num_nodes + high` of global node ids. Only one direction of a triple type
      has an entry.
    """
    facts = Facts.concatenate(graph.facts.values())
    head_types, tail_types = graph.types_of(facts.head), graph.types_of(facts.tail)
    keys = _undirected_keys(facts, _num_nodes(graph))
    node_pairs: dict[TripleType, np.ndarray] = {}
    for triple_type in graph.triple_types:
        reverse = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        if reverse in node_pairs:
            continue
        mask = graph.fact_mask(triple_type, head_types, facts.relation, tail_types)
        node_pairs[triple_type] = np.unique(keys[mask])
    return node_pairs


def overlaps(node_pairs: Mapping[TripleType, Int64[np.ndarray, "pairs"]]) -> tuple[Overlap, ...]:
    """Finds all pairs of triple types that share a node pair.

    Args:
      node_pairs: Result of `node_pairs_by_triple_type`.

    Returns:
      Overlaps, the largest containment first.
    """
    results = []
    for first, second in combinations(node_pairs, 2):
        if {first.head, first.tail} != {second.head, second.tail}:
            continue  # triple types between other node types share no node pair
        common = np.intersect1d(node_pairs[first], node_pairs[second], assume_unique=True)
        if shared := len(common):
            sizes = len(node_pairs[first]), len(node_pairs[second])
            jaccard = shared / (sum(sizes) - shared)
            results.append(Overlap(first, second, shared, jaccard, shared / min(sizes)))
    return tuple(sorted(results, key=lambda o: -o.containment))


def densities(
    graph: Graph, node_pairs: Mapping[TripleType, Int64[np.ndarray, "pairs"]]
) -> tuple[Density, ...]:
    """Computes the density of each triple type.

    Args:
      graph: Split graph.
      node_pairs: Result of `node_pairs_by_triple_type`.

    Returns:
      One entry for each key of `node_pairs`, the densest first.
    """
    num_nodes = _num_nodes(graph)
    results = []
    for triple_type, keys in node_pairs.items():
        ends = np.concatenate([keys // num_nodes, keys % num_nodes])
        if triple_type.head == triple_type.tail:
            heads = tails = len(np.unique(ends))
            possible = heads * (heads - 1) // 2
        else:
            types = graph.types_of(ends)
            heads, tails = (
                len(np.unique(ends[types == graph.type_id(t)]))
                for t in (triple_type.head, triple_type.tail)
            )
            possible = heads * tails
        density = len(keys) / max(possible, 1)
        results.append(Density(triple_type, len(keys), heads, tails, density))
    return tuple(sorted(results, key=lambda d: -d.density))


def audit(graph: Graph, split: str = "test", seen_split: str = "train") -> LeakageReport:
    """Counts the facts of one split that another split reveals.

    Args:
      graph: Split graph.
      split: Split to audit, default `test`.
      seen_split: Split that a model has seen, default `train`.

    Returns:
      Counts of directed rows.
    """
    num_nodes = _num_nodes(graph)
    seen, facts = graph.facts[seen_split], graph.facts[split]
    exact = np.isin(_directed_keys(facts, num_nodes), _directed_keys(seen, num_nodes))
    mirror = np.isin(_mirrored_keys(facts, num_nodes), _directed_keys(seen, num_nodes))
    one_way = graph.one_way_mask(facts)
    if graph.directed_relations and not graph.directed:
        mirror &= ~one_way  # the opposite direction of a directed relation is another fact
    same_fact = exact | mirror

    pair_keys, seen_pair_keys = (_undirected_keys(f, num_nodes) for f in (facts, seen))
    joined = np.isin(pair_keys, seen_pair_keys) & ~same_fact
    node_pairs = node_pairs_by_triple_type(graph)
    near_duplicate = np.zeros(len(facts), bool)
    for overlap in overlaps(node_pairs):
        if not overlap.is_near_duplicate:
            continue
        types = overlap.first, overlap.second
        for triple_type, duplicate in (types, types[::-1]):
            revealed = np.isin(pair_keys, seen_pair_keys[_is_of_type(graph, seen, duplicate)])
            near_duplicate |= _is_of_type(graph, facts, triple_type) & revealed
    cartesian = np.zeros(len(facts), bool)
    for density in densities(graph, node_pairs):
        if density.is_cartesian:
            of_type = seen[_is_of_type(graph, seen, density.triple_type)]
            both_seen = _both_nodes_in(facts, of_type, num_nodes)
            cartesian |= _is_of_type(graph, facts, density.triple_type) & both_seen
    categories = (
        exact,
        mirror,
        near_duplicate & ~same_fact,
        cartesian & ~same_fact & ~near_duplicate,
        joined & ~near_duplicate & ~cartesian,
        ~_both_nodes_in(facts, seen, num_nodes),
    )
    directions = np.where(one_way, 1, 2)
    counts = (int(directions[rows].sum()) for rows in categories)
    return LeakageReport(int(directions.sum()), *counts)


def _num_nodes(graph: Graph) -> np.int64:
    return np.int64(sum(graph.counts))  # int64, so that products with int32 ids do not overflow


def _is_of_type(graph: Graph, facts: Facts, triple_type: TripleType) -> Bool[np.ndarray, "n"]:
    head_types, tail_types = graph.types_of(facts.head), graph.types_of(facts.tail)
    return graph.fact_mask(triple_type, head_types, facts.relation, tail_types)


def _both_nodes_in(facts: Facts, others: Facts, num_nodes: np.int64) -> Bool[np.ndarray, "n"]:
    """Returns which facts have both nodes among the nodes of other facts."""
    occurs = np.zeros(num_nodes, bool)
    occurs[others.head] = occurs[others.tail] = True
    return occurs[facts.head] & occurs[facts.tail]


def _directed_keys(facts: Facts, num_nodes: np.int64) -> Int64[np.ndarray, "n"]:
    relation = facts.relation.astype(np.int64)
    return np.asarray((relation * num_nodes + facts.head) * num_nodes + facts.tail)


def _mirrored_keys(facts: Facts, num_nodes: np.int64) -> Int64[np.ndarray, "n"]:
    return _directed_keys(Facts(facts.tail, facts.relation, facts.head, facts.mirrored), num_nodes)


def _undirected_keys(facts: Facts, num_nodes: np.int64) -> Int64[np.ndarray, "n"]:
    low, high = np.minimum(facts.head, facts.tail), np.maximum(facts.head, facts.tail)
    return np.asarray(low * num_nodes + high)
