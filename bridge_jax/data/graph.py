"""The typed graph: facts, directed triple types, held-out queries, and known positives.

Global node ids run through the node types in the manifest's order; a *local* id is a node's row
in its type's embedding table. A *fact* is undirected; a *triple type* (head type, relation, tail
type) is one direction of asking about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from bridge_jax.data.dataset import SPLITS, Manifest, read_blocks
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError, unknown

Ids = Int32[np.ndarray, "n"]


class TripleType(NamedTuple):
    """One direction of one kind of fact, e.g. (drug, target, gene/protein)."""

    head: str
    relation: str
    tail: str

    def __str__(self) -> str:
        return f"{self.head} → {self.relation} → {self.tail}"


class Pairs(NamedTuple):
    """Heads and tails of one triple type, as local ids of one length."""

    heads: Ids
    tails: Ids


@dataclass(frozen=True)
class Facts:
    """Undirected facts: global node ids, relation ids, and whether both directions were stored."""

    head: Ids
    relation: Ids
    tail: Ids
    mirrored: Ids

    def __len__(self) -> int:
        return len(self.head)

    def __getitem__(self, rows: np.ndarray) -> "Facts":
        return Facts(self.head[rows], self.relation[rows], self.tail[rows], self.mirrored[rows])


@dataclass(frozen=True)
class Graph:
    """A split knowledge graph.

    Attributes:
      node_types: names, in the order of the global ids.
      counts: nodes of each type.
      relations: names; a fact's relation id indexes them.
      facts: the facts of each split.
      heldout: global ids of the nodes that validation and test keep out of training.
      directed: whether the facts are already directed queries (only the `biobridge` split), in
        place of standing for both directions.
    """

    node_types: tuple[str, ...]
    counts: tuple[int, ...]
    relations: tuple[str, ...]
    facts: Mapping[str, Facts]
    heldout: Mapping[str, Ids] = field(default_factory=dict)
    directed: bool = False

    @cached_property
    def offsets(self) -> Int[np.ndarray, "bounds"]:
        """First global id of each type, and the total."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def type_id(self, name: str) -> int:
        """Index of a node type.

        Raises:
          InputError: the graph has no such type.
        """
        if name not in self.node_types:
            raise unknown("node type", name, self.node_types, "this graph")
        return self.node_types.index(name)

    def relation_id(self, name: str) -> int:
        """Index of a relation.

        Raises:
          InputError: the graph has no such relation.
        """
        if name not in self.relations:
            raise unknown("relation", name, self.relations, "this graph")
        return self.relations.index(name)

    def types_of(self, nodes: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Type index of each global node id."""
        return np.asarray(np.searchsorted(self.offsets, nodes, side="right") - 1)

    def local(self, nodes: Int[np.ndarray, "n"]) -> Ids:
        """Local id of each global node id."""
        return np.asarray(nodes - self.offsets[self.types_of(nodes)], np.int32)

    @cached_property
    def triple_types(self) -> tuple[TripleType, ...]:
        """Every triple type that has a fact in any split, in a fixed order."""
        found: set[tuple[int, int, int]] = set()
        for facts in self.facts.values():
            keys = np.stack([self.types_of(facts.head), facts.relation, self.types_of(facts.tail)])
            found |= {(int(h), int(r), int(t)) for h, r, t in np.unique(keys, axis=1).T}
        if not self.directed:
            found |= {(t, r, h) for h, r, t in found}
        return tuple(
            TripleType(self.node_types[h], self.relations[r], self.node_types[t])
            for h, r, t in sorted(found)
        )

    def triple_type(self, head: str, relation: str, tail: str) -> TripleType:
        """Check a triple type by its names.

        Raises:
          InputError: unknown names, or a combination that no fact has.
        """
        self.type_id(head), self.relation_id(relation), self.type_id(tail)
        triple_type = TripleType(head, relation, tail)
        if triple_type not in self.triple_types:
            raise unknown(
                "triple type", str(triple_type), map(str, self.triple_types), "this graph"
            )
        return triple_type

    def pairs(self, splits: Iterable[str] = SPLITS) -> dict[TripleType, Pairs]:
        """All directed (head, tail) pairs of some splits, by triple type; both directions.

        Args:
          splits: which splits to join, in this order.

        Returns:
          One entry for each of `triple_types`, possibly empty.
        """
        parts = [self.facts[s] for s in splits if s in self.facts]
        head, relation, tail = (
            np.concatenate([getattr(p, name) for p in parts] or [np.zeros(0, np.int32)])
            for name in ("head", "relation", "tail")
        )
        if not self.directed:
            head, tail = np.concatenate([head, tail]), np.concatenate([tail, head])
            relation = np.concatenate([relation, relation])
        head_type, tail_type = self.types_of(head), self.types_of(tail)
        out = {}
        for triple_type in self.triple_types:
            rows = (
                (head_type == self.node_types.index(triple_type.head))
                & (relation == self.relations.index(triple_type.relation))
                & (tail_type == self.node_types.index(triple_type.tail))
            )
            out[triple_type] = Pairs(self.local(head[rows]), self.local(tail[rows]))
        return out

    def heldout_mask(self, node_type: str, splits: Iterable[str]) -> np.ndarray:
        """Bool `[count]`: which nodes of a type are held out by any of the splits."""
        i = self.type_id(node_type)
        mask = np.zeros(self.counts[i], bool)
        for split in splits:
            nodes = self.heldout.get(split, np.zeros(0, np.int32))
            mask[self.local(nodes[self.types_of(nodes) == i])] = True
        return mask

    def train_nodes(self, node_type: str) -> Ids:
        """Local ids of the nodes that training may see; never a held-out one."""
        return np.flatnonzero(~self.heldout_mask(node_type, SPLITS)).astype(np.int32)

    def seen_nodes(self, node_type: str) -> Ids:
        """The training nodes; every node of a type that is held out as a whole."""
        rows = self.train_nodes(node_type)
        return (
            rows if len(rows) else np.arange(self.counts[self.type_id(node_type)], dtype=np.int32)
        )

    def queries(self, split: str) -> dict[TripleType, Pairs]:
        """The directed pairs that evaluation asks about, sorted by head.

        With held-out nodes a fact is asked **from its held-out end**: given an unseen node, find
        its neighbours. (Asked the other way the answer is an unseen node, which popularity and
        nearest neighbour cannot name at all.) A fact between two held-out nodes is asked from
        both. Without held-out nodes every fact is asked in both directions.
        """
        out = {}
        for triple_type, (heads, tails) in self.pairs([split]).items():
            if self.heldout and not self.directed:
                keep = self.heldout_mask(triple_type.head, [split])[heads]
                heads, tails = heads[keep], tails[keep]
            order = np.lexsort((tails, heads))
            out[triple_type] = Pairs(heads[order], tails[order])
        return out


@dataclass(frozen=True)
class Known:
    """Known positives of one triple type: for each head the sorted tails, as a CSR.

    Attributes:
      indptr: `[heads + 1]`; head h's tails are `tails[indptr[h]:indptr[h + 1]]`.
      tails: local ids, ascending within a head, without repeats.
    """

    indptr: Int32[np.ndarray, "ends"]
    tails: Ids

    @classmethod
    def build(cls, pairs: Pairs, heads: int, tails: int) -> "Known":
        """Index pairs for a triple type with this many head and tail nodes."""
        keys = np.unique(pairs.heads.astype(np.int64) * tails + pairs.tails)
        counts = np.bincount(keys // tails, minlength=heads)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return cls(indptr, (keys % tails).astype(np.int32))

    def of(self, heads: Ids) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
        """Known tails of a batch of heads.

        Returns:
          (row, tail) pairs: row is the position in `heads`.
        """
        counts = self.indptr[heads + 1] - self.indptr[heads]
        rows = np.repeat(np.arange(len(heads)), counts)
        starts = np.repeat(self.indptr[heads] - np.cumsum(counts) + counts, counts)
        return rows, self.tails[starts + np.arange(len(rows))]

    def contains(self, heads: Ids, tails: Ids) -> np.ndarray:
        """Bool `[n]`: is (heads[i], tails[i]) a known positive?"""
        width = int(self.tails.max(initial=0)) + 2
        rows = np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int64), np.diff(self.indptr))
        keys = rows * width + self.tails
        wanted = heads.astype(np.int64) * width + np.minimum(tails, width - 1)
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        return keys[at] == wanted if len(keys) else np.zeros(len(heads), bool)


def known_positives(graph: Graph, splits: Iterable[str]) -> dict[TripleType, Known]:
    """Index the facts of some splits in both directions.

    Args:
      graph: the graph.
      splits: `["train"]` for the loss mask, all three for filtered ranks.
    """
    sizes = dict(zip(graph.node_types, graph.counts, strict=True))
    pairs = graph.pairs(splits)
    return {k: Known.build(p, sizes[k.head], sizes[k.tail]) for k, p in pairs.items()}


def subsample_facts(graph: Graph, fraction: float, seed: int) -> Graph:
    """Train on a part of the facts; the others stay known, as answers that are not to be ranked.

    Args:
      graph: a split graph.
      fraction: of the training facts to keep. What a smaller one keeps, a larger one keeps too.
      seed: chooses them.

    Returns:
      The graph; the facts that training loses stand under `unused`.

    Raises:
      InputError: a fraction outside (0, 1], or one that leaves no fact.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction {fraction} of the training facts must lie within (0, 1]")
    if fraction == 1:
        return graph
    train = graph.facts["train"]
    kept = np.random.default_rng(seed).random(len(train)) < fraction
    if not kept.any():
        raise InputError(f"fraction {fraction} of {len(train)} training facts leaves none")
    return replace(graph, facts={**graph.facts, "train": train[kept], "unused": train[~kept]})


def load_graph(root: str | Path, manifest: Manifest) -> Graph:
    """Read the facts and held-out nodes of a dataset.

    Raises:
      InputError: a shard is damaged, or a fact names a node or relation that does not exist.
    """
    counts = tuple(t.count for t in manifest.node_types)
    facts = {}
    for split, file in manifest.triples.items():
        columns = read_blocks(root, file, triple_layout())
        for name, limit in (
            ("head", sum(counts)),
            ("tail", sum(counts)),
            ("relation", len(manifest.relations)),
        ):
            if len(columns[name]) and int(columns[name].max()) >= limit:
                raise InputError(
                    f"{root}: a {split} fact has {name} id {int(columns[name].max())}; "
                    f"the manifest has {limit}"
                )
        facts[split] = Facts(**columns)
    heldout = {
        split: read_blocks(root, file, heldout_layout())["node"]
        for split, file in manifest.heldout.items()
    }
    for split, nodes in heldout.items():
        if nodes.max(initial=-1) >= sum(counts):
            raise InputError(
                f"{root}: {split} has held-out node {nodes.max()}; the manifest has {sum(counts)} "
                "nodes"
            )
    return Graph(
        tuple(t.name for t in manifest.node_types),
        counts,
        manifest.relations,
        facts,
        heldout,
        bool(manifest.split.get("directed", False)),
    )
