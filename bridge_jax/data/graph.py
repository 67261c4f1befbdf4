"""Typed knowledge graph: facts, triple types, evaluation queries and known positives.

A *global* node id counts through the node types in the order of the manifest. A *local* node id is
the node's row in the embedding table of its type. A *fact* is an undirected edge. A *triple type*
(head type, relation, tail type) is one direction in which facts can be queried.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from bridge_jax.data.dataset import read_columns
from bridge_jax.data.manifest import SPLITS, Manifest
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError, unknown

Ids = Int32[np.ndarray, "n"]


class TripleType(NamedTuple):
    """Head type, relation and tail type, e.g. `(drug, target, gene/protein)`."""

    head: str
    relation: str
    tail: str

    def __str__(self) -> str:
        return f"{self.head} → {self.relation} → {self.tail}"


class Pairs(NamedTuple):
    """Heads and tails of one triple type, as two arrays of local ids of equal length."""

    heads: Ids
    tails: Ids


@dataclass(frozen=True)
class Facts:
    """Undirected facts as columns of equal length.

    Attributes:
      head: Global node ids, int32 `[n]`.
      relation: Relation ids, int32 `[n]`.
      tail: Global node ids, int32 `[n]`.
      mirrored: 1 where the source stores the fact in both directions, else 0; int32 `[n]`.
    """

    head: Ids
    relation: Ids
    tail: Ids
    mirrored: Ids

    def __len__(self) -> int:
        return len(self.head)

    def __getitem__(self, rows: np.ndarray) -> "Facts":
        return Facts(self.head[rows], self.relation[rows], self.tail[rows], self.mirrored[rows])

    @classmethod
    def concatenate(cls, facts: Iterable["Facts"]) -> "Facts":
        """Returns the facts of several objects as one; no objects give no facts."""
        columns = [(f.head, f.relation, f.tail, f.mirrored) for f in facts]
        if not columns:
            empty = np.zeros(0, np.int32)
            return cls(empty, empty, empty, empty)
        return cls(*(np.concatenate(arrays) for arrays in zip(*columns, strict=True)))


@dataclass(frozen=True)
class Graph:
    """Knowledge graph with its split into training, validation and test facts.

    Attributes:
      node_types: Names of the node types, in the order of the global ids.
      counts: Number of nodes of each type.
      relations: Names of the relations; a relation id is an index into them.
      facts: Facts by split.
      heldout: Global ids of the nodes that validation and test keep out of training, by split.
      directed: Whether each fact is one directed query (only with the `biobridge` split) instead of
        standing for both directions.
      directed_relations: Names of the relations whose facts within one node type are queried from
        head to tail only.
    """

    node_types: tuple[str, ...]
    counts: tuple[int, ...]
    relations: tuple[str, ...]
    facts: Mapping[str, Facts]
    heldout: Mapping[str, Ids] = field(default_factory=dict)
    directed: bool = False
    directed_relations: tuple[str, ...] = ()

    @cached_property
    def offsets(self) -> Int[np.ndarray, "bounds"]:
        """First global id of each node type, followed by the number of nodes."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def type_id(self, name: str) -> int:
        """Returns the index of a node type.

        Raises:
          InputError: The graph has no node type of this name.
        """
        if name not in self.node_types:
            raise unknown("node type", name, self.node_types, "this graph")
        return self.node_types.index(name)

    def relation_id(self, name: str) -> int:
        """Returns the index of a relation.

        Raises:
          InputError: The graph has no relation of this name.
        """
        if name not in self.relations:
            raise unknown("relation", name, self.relations, "this graph")
        return self.relations.index(name)

    def types_of(self, nodes: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Returns the node type index of each global id."""
        return np.asarray(np.searchsorted(self.offsets, nodes, side="right") - 1)

    def local(self, nodes: Int[np.ndarray, "n"]) -> Ids:
        """Returns the local id of each global id."""
        return np.asarray(nodes - self.offsets[self.types_of(nodes)], np.int32)

    @cached_property
    def triple_types(self) -> tuple[TripleType, ...]:
        """All triple types that have a fact in any split, sorted by their ids."""
        type_ids: set[tuple[int, int, int]] = set()
        for facts in self.facts.values():
            keys = np.stack([self.types_of(facts.head), facts.relation, self.types_of(facts.tail)])
            type_ids |= {(int(h), int(r), int(t)) for h, r, t in np.unique(keys, axis=1).T}
        if not self.directed:
            type_ids |= {(t, r, h) for h, r, t in type_ids}
        return tuple(
            TripleType(self.node_types[h], self.relations[r], self.node_types[t])
            for h, r, t in sorted(type_ids)
        )

    def triple_type(self, head: str, relation: str, tail: str) -> TripleType:
        """Returns the triple type with these names.

        Raises:
          InputError: A name is unknown, or no fact has this combination.
        """
        self.type_id(head), self.relation_id(relation), self.type_id(tail)
        triple_type = TripleType(head, relation, tail)
        if triple_type not in self.triple_types:
            raise unknown(
                "triple type", str(triple_type), map(str, self.triple_types), "this graph"
            )
        return triple_type

    def one_way_mask(self, facts: Facts) -> Bool[np.ndarray, "n"]:
        """Returns which facts are queried from head to tail only."""
        if self.directed:
            return np.ones(len(facts), bool)
        names = self.directed_relations
        relations = [i for i, name in enumerate(self.relations) if name in names]
        if not relations:
            return np.zeros(len(facts), bool)
        same_type = self.types_of(facts.head) == self.types_of(facts.tail)
        return np.asarray(np.isin(facts.relation, relations) & same_type)

    def fact_mask(
        self,
        triple_type: TripleType,
        head_types: Int[np.ndarray, "n"],
        relations: Int[np.ndarray, "n"],
        tail_types: Int[np.ndarray, "n"],
    ) -> Bool[np.ndarray, "n"]:
        """Returns which facts are of a triple type, in either direction.

        Args:
          triple_type: Triple type of this graph.
          head_types: Node type index of each head; see `types_of`.
          relations: Relation id of each fact.
          tail_types: Node type index of each tail.
        """
        a, b = self.type_id(triple_type.head), self.type_id(triple_type.tail)
        ends = ((head_types == a) & (tail_types == b)) | ((head_types == b) & (tail_types == a))
        return np.asarray(ends & (relations == self.relation_id(triple_type.relation)))

    def pairs(self, splits: Iterable[str] = SPLITS) -> dict[TripleType, Pairs]:
        """Returns the (head, tail) pairs of some splits by triple type, in both directions.

        Args:
          splits: Splits to concatenate, in this order; default all.

        Returns:
          Pairs for each of `triple_types`, possibly none. A fact that is queried one way only (see
          `one_way_mask`) gives one pair.
        """
        facts = Facts.concatenate(self.facts[s] for s in splits if s in self.facts)
        head, relation, tail = facts.head, facts.relation, facts.tail
        if not self.directed:
            both_ways = ~self.one_way_mask(facts) if self.directed_relations else slice(None)
            back = tail[both_ways], relation[both_ways], head[both_ways]
            head, tail = np.concatenate([head, back[0]]), np.concatenate([tail, back[2]])
            relation = np.concatenate([relation, back[1]])
        head_types, tail_types = self.types_of(head), self.types_of(tail)
        pairs = {}
        for triple_type in self.triple_types:
            rows = (
                (head_types == self.node_types.index(triple_type.head))
                & (relation == self.relations.index(triple_type.relation))
                & (tail_types == self.node_types.index(triple_type.tail))
            )
            pairs[triple_type] = Pairs(self.local(head[rows]), self.local(tail[rows]))
        return pairs

    def heldout_mask(self, node_type: str, splits: Iterable[str]) -> Bool[np.ndarray, "count"]:
        """Returns which nodes of a type any of the splits holds out, bool `[count]`."""
        i = self.type_id(node_type)
        mask = np.zeros(self.counts[i], bool)
        for split in splits:
            nodes = self.heldout.get(split, np.zeros(0, np.int32))
            mask[self.local(nodes[self.types_of(nodes) == i])] = True
        return mask

    def train_nodes(self, node_type: str) -> Ids:
        """Returns the local ids of the nodes that no split holds out."""
        return np.flatnonzero(~self.heldout_mask(node_type, SPLITS)).astype(np.int32)

    def nodes_to_fit_on(self, node_type: str) -> Ids:
        """Returns the local ids of the nodes on which a transform of the embeddings may be fitted.

        These are the training nodes. If every node of the type is held out (split rule `modality`),
        they are all nodes, because a transform needs some and uses no facts.
        """
        nodes = self.train_nodes(node_type)
        if len(nodes):
            return nodes
        return np.arange(self.counts[self.type_id(node_type)], dtype=np.int32)

    def queries(self, split: str) -> dict[TripleType, Pairs]:
        """Returns the evaluation queries of a split by triple type, sorted by head.

        With held-out nodes, the head of a query is **the held-out end** of a fact: given an unseen
        node, find its neighbours. In the other direction the answer would be an unseen node, which
        popularity and nearest-neighbour baselines can never rank. A fact between two held-out nodes
        gives two queries. Without held-out nodes, each fact gives a query in both directions.
        A fact of a directed relation within one node type is queried from its head only: if only
        its tail is held out, it gives no query.
        """
        queries = {}
        for triple_type, (heads, tails) in self.pairs([split]).items():
            if self.heldout and not self.directed:
                keep = self.heldout_mask(triple_type.head, [split])[heads]
                heads, tails = heads[keep], tails[keep]
            order = np.lexsort((tails, heads))
            queries[triple_type] = Pairs(heads[order], tails[order])
        return queries


@dataclass(frozen=True)
class Known:
    """Known positives of one triple type: the tails of each head, as a CSR matrix.

    Attributes:
      indptr: Row pointers, int32 `[heads + 1]`; the tails of head `h` are
        `tails[indptr[h] : indptr[h + 1]]`.
      tails: Local ids, int32; ascending and without repeats for each head.
    """

    indptr: Int32[np.ndarray, "ends"]
    tails: Ids

    @classmethod
    def build(cls, pairs: Pairs, num_heads: int, num_tails: int) -> "Known":
        """Indexes pairs; repeated pairs count once.

        Args:
          pairs: Positive pairs, in any order.
          num_heads: Number of nodes of the head type.
          num_tails: Number of nodes of the tail type.
        """
        keys = np.unique(pairs.heads.astype(np.int64) * num_tails + pairs.tails)
        counts = np.bincount(keys // num_tails, minlength=num_heads)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return cls(indptr, (keys % num_tails).astype(np.int32))

    def of(self, heads: Ids) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
        """Returns the known tails of a batch of heads.

        Args:
          heads: Local ids `[n]`, repeats allowed.

        Returns:
          Two arrays `[m]`, one entry for each known positive: its position in `heads` and its tail.
        """
        counts = self.indptr[heads + 1] - self.indptr[heads]
        rows = np.repeat(np.arange(len(heads)), counts)
        starts = np.repeat(self.indptr[heads] - np.cumsum(counts) + counts, counts)
        return rows, self.tails[starts + np.arange(len(rows))]

    def contains(self, heads: Ids, tails: Ids) -> Bool[np.ndarray, "n"]:
        """Returns for each pair (heads[i], tails[i]) whether it is a known positive, bool `[n]`."""
        width = int(self.tails.max(initial=0)) + 2
        rows = np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int64), np.diff(self.indptr))
        keys = rows * width + self.tails
        pair_keys = heads.astype(np.int64) * width + np.minimum(tails, width - 1)
        at = np.minimum(np.searchsorted(keys, pair_keys), max(len(keys) - 1, 0))
        return keys[at] == pair_keys if len(keys) else np.zeros(len(heads), bool)


def known_positives(graph: Graph, splits: Iterable[str]) -> dict[TripleType, Known]:
    """Indexes the facts of some splits in both directions.

    Args:
      graph: Split graph.
      splits: Splits to index: `["train"]` to mask the loss, all splits for filtered ranks.

    Returns:
      Known positives by triple type.
    """
    counts = dict(zip(graph.node_types, graph.counts, strict=True))
    return {
        triple_type: Known.build(pairs, counts[triple_type.head], counts[triple_type.tail])
        for triple_type, pairs in graph.pairs(splits).items()
    }


def subsample_facts(graph: Graph, fraction: float, seed: int) -> Graph:
    """Keeps a random fraction of the training facts.

    The other training facts move to the split `unused`. They are still known positives, so filtered
    ranks do not count them as wrong answers.

    Args:
      graph: Split graph.
      fraction: Fraction of the training facts to keep. With the same seed, a larger fraction keeps
        all facts that a smaller one keeps.
      seed: Seed of the random choice.

    Returns:
      Graph with fewer training facts.

    Raises:
      InputError: `fraction` is outside (0, 1], or no fact is kept.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction {fraction} of the training facts must lie within (0, 1]")
    if fraction == 1:
        return graph
    train = graph.facts["train"]
    keep = np.random.default_rng(seed).random(len(train)) < fraction
    if not keep.any():
        raise InputError(
            f"fraction {fraction} of {len(train)} training facts keeps none; use a larger fraction"
        )
    return replace(graph, facts={**graph.facts, "train": train[keep], "unused": train[~keep]})


def load_graph(root: str | Path, manifest: Manifest) -> Graph:
    """Reads the facts and held-out nodes of a dataset.

    Args:
      root: Dataset directory.
      manifest: Manifest of the dataset.

    Returns:
      Graph with the splits of the manifest.

    Raises:
      InputError: A shard is damaged, or a node or relation id is out of range.
    """
    counts = tuple(table.count for table in manifest.node_types)
    num_nodes = sum(counts)
    limits = {"head": num_nodes, "tail": num_nodes, "relation": len(manifest.relations)}
    facts = {}
    for split, file in manifest.triples.items():
        columns = read_columns(root, file, triple_layout())
        for name, limit in limits.items():
            largest = int(columns[name].max(initial=-1))
            if largest >= limit:
                raise InputError(
                    f"{root}: a {split} fact has {name} id {largest}; the manifest has {limit}"
                )
        facts[split] = Facts(**columns)
    heldout = {
        split: read_columns(root, file, heldout_layout())["node"]
        for split, file in manifest.heldout.items()
    }
    for split, nodes in heldout.items():
        if nodes.max(initial=-1) >= num_nodes:
            raise InputError(
                f"{root}: {split} has held-out node {nodes.max()}; the manifest has {num_nodes} "
                "nodes"
            )
    return Graph(
        tuple(table.name for table in manifest.node_types),
        counts,
        manifest.relations,
        facts,
        heldout,
        bool(manifest.split.get("directed", False)),
        tuple(manifest.split.get("directed_relations", ())),
    )
