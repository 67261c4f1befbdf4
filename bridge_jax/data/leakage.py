"""What training gives away of a split: the same fact, its mirror image, a near-duplicate relation.

A relation that nearly repeats another, or that joins nearly everything to everything, makes test
facts easy wherever both ends were seen (Toutanova and Chen, 2015; Akrami et al., SIGMOD 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Int64

from bridge_jax.data.graph import Facts, Graph, TripleType

OVERLAP = 0.5  # of the smaller triple type: above it, two are near-duplicates
DENSITY = 0.8  # of all possible pairs: above it, a triple type is a near-complete block


@dataclass(frozen=True)
class LeakageReport:
    """What training gives away of the directed rows of one split.

    A fact that is asked in both directions counts as two rows.

    Attributes:
      rows: directed rows.
      exact: rows that training has in the same direction.
      mirror: rows whose mirror image training has.
      near_duplicate: rows whose nodes training joins by a near-duplicate of their relation.
      cartesian: rows of a near-complete block with both ends in the block's training facts.
      other_relation: rows whose nodes training joins by any other relation; not a leak.
      unseen_node: rows with a node that has no training fact.
    """

    rows: int
    exact: int
    mirror: int
    near_duplicate: int
    cartesian: int
    other_relation: int
    unseen_node: int

    @property
    def clean(self) -> bool:
        """Whether training gives no row away."""
        return not (self.exact or self.mirror or self.near_duplicate or self.cartesian)


@dataclass(frozen=True)
class Overlap:
    """Two triple types over the same node types that share node pairs, in either direction."""

    first: TripleType
    second: TripleType
    shared: int
    jaccard: float
    containment: float

    @property
    def near_duplicate(self) -> bool:
        """Whether one says nearly what the other says."""
        return max(self.jaccard, self.containment) > OVERLAP


@dataclass(frozen=True)
class Block:
    """How full the rectangle (or, within one node type, the triangle) of a triple type is."""

    triple_type: TripleType
    facts: int
    heads: int
    tails: int
    density: float

    @property
    def cartesian(self) -> bool:
        """Whether it joins nearly everything to everything; a single row or column does not."""
        return self.density > DENSITY and min(self.heads, self.tails) > 1


def node_pairs_by_triple_type(graph: Graph) -> dict[TripleType, Int64[np.ndarray, "pairs"]]:
    """The distinct undirected node pairs of each kind of fact, all splits together.

    Args:
      graph: a split graph; mirrored rows of a directed one are counted once.

    Returns:
      Sorted keys `low * nodes + high` by triple type, one direction of each.
    """
    nodes = np.int64(sum(graph.counts))
    whole = _joined(graph.facts)
    head_type, tail_type = graph.types_of(whole.head), graph.types_of(whole.tail)
    keys = _undirected(whole, nodes)
    out: dict[TripleType, np.ndarray] = {}
    for triple_type in graph.triple_types:
        turned = TripleType(triple_type.tail, triple_type.relation, triple_type.head)
        if turned in out:
            continue
        a, b = graph.type_id(triple_type.head), graph.type_id(triple_type.tail)
        ends = ((head_type == a) & (tail_type == b)) | ((head_type == b) & (tail_type == a))
        out[triple_type] = np.unique(
            keys[ends & (whole.relation == graph.relation_id(triple_type.relation))]
        )
    return out


def overlaps(
    graph: Graph, pairs: Mapping[TripleType, Int64[np.ndarray, "pairs"]]
) -> tuple[Overlap, ...]:
    """Every two triple types that share a node pair, the closest first.

    Args:
      graph: the graph.
      pairs: from `pairs_of_kinds`.
    """
    found = []
    for first, second in combinations(pairs, 2):
        if {first.head, first.tail} != {second.head, second.tail}:
            continue  # other node types: nothing to share
        shared = len(np.intersect1d(pairs[first], pairs[second], assume_unique=True))
        if shared:
            sizes = len(pairs[first]), len(pairs[second])
            jaccard = shared / (sum(sizes) - shared)
            found.append(Overlap(first, second, shared, jaccard, shared / min(sizes)))
    return tuple(sorted(found, key=lambda o: -o.containment))


def blocks(
    graph: Graph, pairs: Mapping[TripleType, Int64[np.ndarray, "pairs"]]
) -> tuple[Block, ...]:
    """The density of each triple type, the fullest first.

    Args:
      graph: the graph.
      pairs: from `pairs_of_kinds`.
    """
    nodes = sum(graph.counts)
    found = []
    for triple_type, keys in pairs.items():
        ends = np.concatenate([keys // nodes, keys % nodes])
        if triple_type.head == triple_type.tail:
            heads = tails = len(np.unique(ends))
            room = heads * (heads - 1) // 2
        else:
            types = graph.types_of(ends)
            heads, tails = (
                len(np.unique(ends[types == graph.type_id(t)]))
                for t in (triple_type.head, triple_type.tail)
            )
            room = heads * tails
        found.append(Block(triple_type, len(keys), heads, tails, len(keys) / max(room, 1)))
    return tuple(sorted(found, key=lambda b: -b.density))


def audit(graph: Graph, split: str = "test", against: str = "train") -> LeakageReport:
    """Count what one split gives away of another.

    Args:
      graph: a split graph.
      split: `test` or `validation`.
      against: the split that a model has seen.
    """
    nodes = np.int64(sum(graph.counts))
    seen, rest = graph.facts[against], graph.facts[split]
    exact = np.isin(_directed(rest, nodes), _directed(seen, nodes))
    mirror = np.isin(_directed(rest, nodes, turned=True), _directed(seen, nodes))
    given = exact | mirror

    pairs = node_pairs_by_triple_type(graph)
    joined = np.isin(_undirected(rest, nodes), _undirected(seen, nodes)) & ~given
    near = np.zeros(len(rest), bool)
    for overlap in overlaps(graph, pairs):
        if not overlap.near_duplicate:
            continue
        for asked, told in ((overlap.first, overlap.second), (overlap.second, overlap.first)):
            by = _undirected(seen[_of(graph, seen, told)], nodes)
            near |= _of(graph, rest, asked) & np.isin(_undirected(rest, nodes), by)
    full = np.zeros(len(rest), bool)
    for block in blocks(graph, pairs):
        if block.cartesian:
            known = _touched(seen[_of(graph, seen, block.triple_type)], nodes)
            full |= _of(graph, rest, block.triple_type) & known[rest.head] & known[rest.tail]
    known = _touched(seen, nodes)
    unseen = ~(known[rest.head] & known[rest.tail])
    both = 1 if graph.directed else 2
    columns = (
        exact,
        mirror,
        near & ~given,
        full & ~given & ~near,
        joined & ~near & ~full,
        unseen,
    )
    return LeakageReport(both * len(rest), *(both * int(c.sum()) for c in columns))


def _joined(facts: Mapping[str, Facts]) -> Facts:
    parts = [vars(f) for f in facts.values()]
    return Facts(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def _of(graph: Graph, facts: Facts, triple_type: TripleType) -> np.ndarray:
    head, tail = graph.types_of(facts.head), graph.types_of(facts.tail)
    a, b = graph.type_id(triple_type.head), graph.type_id(triple_type.tail)
    ends = ((head == a) & (tail == b)) | ((head == b) & (tail == a))
    return np.asarray(ends & (facts.relation == graph.relation_id(triple_type.relation)))


def _touched(facts: Facts, nodes: np.int64) -> np.ndarray:
    touched = np.zeros(nodes, bool)
    touched[facts.head] = touched[facts.tail] = True
    return touched


def _directed(facts: Facts, nodes: np.int64, turned: bool = False) -> np.ndarray:
    head, tail = (facts.tail, facts.head) if turned else (facts.head, facts.tail)
    return np.asarray((facts.relation.astype(np.int64) * nodes + head) * nodes + tail)


def _undirected(facts: Facts, nodes: np.int64) -> np.ndarray:
    low, high = np.minimum(facts.head, facts.tail), np.maximum(facts.head, facts.tail)
    return np.asarray(low * nodes + high)
