"""Collapse stored edges to facts, split them, and audit what leaks between the splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from bridge_jax.dataset import SPLITS
from bridge_jax.errors import InputError, unknown
from bridge_jax.graph import Facts, Graph

RULES = ("inductive", "transductive", "biobridge")


@dataclass(frozen=True)
class Collapsed:
    """What became of a graph's rows: `rows = facts + mirrored + duplicates`."""

    facts: Facts
    mirrored: int
    duplicates: int


def collapse(
    head: Int[np.ndarray, "n"],
    relation: Int[np.ndarray, "n"],
    tail: Int[np.ndarray, "n"],
    types_of: Int[np.ndarray, "nodes"],
) -> Collapsed:
    """Collapse directed rows to undirected facts.

    Rows (h, r, t) and (t, r, h) are one fact. Facts between two types are all turned the way the
    first row of their kind points; facts within one type keep the direction of their first row.

    Args:
      head: global node ids.
      relation: relation ids.
      tail: global node ids; never equal to `head` (self-loops are rejected before).
      types_of: type index of every global node id.

    Returns:
      The facts, in the order of their first rows, with the counts.
    """
    if not len(head):
        empty = np.zeros(0, np.int32)
        return Collapsed(Facts(empty, empty, empty, empty), 0, 0)
    nodes = np.int64(len(types_of))
    low, high = np.minimum(head, tail).astype(np.int64), np.maximum(head, tail)
    keys = (relation * nodes + low) * nodes + high
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    reverse = (head != head[first][group]).astype(np.int8)
    stored_back = np.zeros(len(first), bool)
    stored_back[group[reverse == 1]] = True

    order = np.argsort(first, kind="stable")
    rows, mirrored = first[order], stored_back[order]
    h, r, t = head[rows], relation[rows], tail[rows]
    types = np.int64(types_of.max() + 1)
    low_type, high_type = (f(types_of[h], types_of[t]) for f in (np.minimum, np.maximum))
    kinds = (r * types + low_type) * types + high_type
    _, first_of_kind, kind = np.unique(kinds, return_index=True, return_inverse=True)
    turn = types_of[h] != types_of[h[first_of_kind]][kind]
    h, t = np.where(turn, t, h), np.where(turn, h, t)
    facts = Facts(*(a.astype(np.int32) for a in (h, r, t, mirrored)))
    both = int(mirrored.sum())
    return Collapsed(facts, both, len(head) - len(facts) - both)


def _by_hash(seed: int, names: Sequence[str]) -> np.ndarray:
    """Order names by a keyed hash, so that a name's rank does not depend on its place in a file."""
    key = str(seed).encode()
    digests = [hashlib.blake2b(n.encode(), digest_size=8, key=key).digest() for n in names]
    return np.argsort(np.frombuffer(b"".join(digests), ">u8"), kind="stable")


def split_facts(
    graph: Graph,
    ids: Sequence[Sequence[str]],
    rule: str,
    seed: int,
    test: float = 0.10,
    validation: float = 0.05,
) -> Graph:
    """Split the facts that stand under `train`.

    `inductive`: a fraction of the nodes of each type is held out; every fact that touches one
    leaves training, a fact that touches a test node is a test fact. `transductive`: a fraction of
    the facts of each kind, provided that both ends keep another fact in training. `biobridge`: the
    released rule, kept for parity; directed rows whose head is held out, so the mirror image of
    most test rows stays in training; leaky.

    Args:
      graph: all facts under `train`.
      ids: the node ids of each type.
      rule: one of `RULES`.
      seed: chooses the nodes or facts by a keyed hash of their ids.
      test: fraction of nodes (or facts).
      validation: likewise.

    Returns:
      The same graph with `facts` and `heldout` by split.

    Raises:
      InputError: an unknown rule, or fractions that leave nothing to train on.
    """
    if rule not in RULES:
        raise unknown("split rule", rule, RULES, "this version")
    if not (test > 0 and validation >= 0 and test + validation < 1):
        raise InputError(f"test {test} and validation {validation} must lie within (0, 1) together")
    facts = graph.facts["train"]
    if rule == "transductive":
        part = _transductive(graph, facts, ids, seed, test, validation)
        return replace(graph, facts={s: facts[part == i] for i, s in enumerate(SPLITS)})
    part_of_node, heldout = _hold_out(graph, ids, seed, test, validation)
    if rule == "inductive":
        part = np.maximum(part_of_node[facts.head], part_of_node[facts.tail])
    else:
        back = facts.mirrored == 1
        facts = Facts(
            np.concatenate([facts.head, facts.tail[back]]),
            np.concatenate([facts.relation, facts.relation[back]]),
            np.concatenate([facts.tail, facts.head[back]]),
            np.concatenate([facts.mirrored, facts.mirrored[back]]),
        )
        part = part_of_node[facts.head]
    return replace(
        graph,
        facts={s: facts[part == i] for i, s in enumerate(SPLITS)},
        heldout=heldout,
        directed=rule == "biobridge",
    )


def _hold_out(
    graph: Graph, ids: Sequence[Sequence[str]], seed: int, test: float, validation: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    part = np.zeros(sum(graph.counts), np.int8)
    for start, names, kind in zip(graph.offsets, ids, graph.node_types, strict=False):
        order = _by_hash(seed, [f"{kind}\t{n}" for n in names]) + start
        n_test, n_validation = round(test * len(names)), round(validation * len(names))
        part[order[:n_test]] = 2
        part[order[n_test : n_test + n_validation]] = 1
    held = {s: np.flatnonzero(part == i).astype(np.int32) for i, s in enumerate(SPLITS) if i}
    return part, held


def _transductive(
    graph: Graph,
    facts: Facts,
    ids: Sequence[Sequence[str]],
    seed: int,
    test: float,
    validation: float,
) -> np.ndarray:
    names = [n for group in ids for n in group]
    columns = zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True)
    order = _by_hash(seed, [f"{names[h]}\t{graph.relations[r]}\t{names[t]}" for h, r, t in columns])
    kinds = np.stack([graph.types_of(facts.head), facts.relation, graph.types_of(facts.tail)])
    _, kind = np.unique(kinds, axis=1, return_inverse=True)
    sizes = np.bincount(kind.ravel())
    goal = np.stack([np.round(sizes * validation), np.round(sizes * test)]).astype(int)
    left = np.bincount(np.concatenate([facts.head, facts.tail]), minlength=sum(graph.counts))
    part = np.zeros(len(facts), np.int8)
    for i in order.tolist():
        k, h, t = kind.flat[i], facts.head[i], facts.tail[i]
        to = 2 if goal[1, k] else 1 if goal[0, k] else 0
        if to and left[h] > 1 and left[t] > 1:
            part[i] = to
            goal[to - 1, k] -= 1
            left[h] -= 1
            left[t] -= 1
    return part


@dataclass(frozen=True)
class Leak:
    """Test and validation queries that training gives away, as directed rows.

    Attributes:
      queries: directed evaluation rows.
      exact: rows that training has in the same direction.
      mirror: rows whose mirror image training has.
      other_relation: rows whose two nodes training joins by another relation.
      unseen_node: rows with a node that has no training fact.
    """

    queries: int
    exact: int
    mirror: int
    other_relation: int
    unseen_node: int

    @property
    def clean(self) -> bool:
        """Whether no evaluation row, or its mirror image, is in training."""
        return not (self.exact or self.mirror)


def audit(graph: Graph, split: str = "test") -> Leak:
    """Count what training gives away of a split.

    Args:
      graph: a split graph.
      split: `test` or `validation`.
    """
    nodes = np.int64(sum(graph.counts))
    train, rest = graph.facts["train"], graph.facts[split]

    def keys(h: np.ndarray, r: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.asarray((r.astype(np.int64) * nodes + h) * nodes + t)

    same = np.isin(keys(rest.head, rest.relation, rest.tail), keys(*_columns(train)))
    turned = np.isin(keys(rest.tail, rest.relation, rest.head), keys(*_columns(train)))
    joined = np.isin(
        keys(np.minimum(rest.head, rest.tail), 0 * rest.head, np.maximum(rest.head, rest.tail)),
        keys(
            np.minimum(train.head, train.tail), 0 * train.head, np.maximum(train.head, train.tail)
        ),
    )
    seen = np.zeros(nodes, bool)
    seen[train.head] = seen[train.tail] = True
    unseen = ~(seen[rest.head] & seen[rest.tail])
    both = 1 if graph.directed else 2
    return Leak(
        both * len(rest),
        both * int(same.sum()),
        both * int(turned.sum()),
        both * int((joined & ~same & ~turned).sum()),
        both * int(unseen.sum()),
    )


def _columns(facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return facts.head, facts.relation, facts.tail
