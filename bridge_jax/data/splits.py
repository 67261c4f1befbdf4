"""Collapse stored edges to facts, and split facts into training, validation and test."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from bridge_jax.data.dataset import SPLITS
from bridge_jax.data.graph import Facts, Graph
from bridge_jax.errors import InputError, unknown

RULES = ("inductive", "transductive", "biobridge", "relation", "modality")
_BY_NODE = ("inductive", "biobridge", "modality")


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
    hold_out: Sequence[str] = (),
    groups: Sequence[Sequence[str]] | None = None,
) -> Graph:
    """Split the facts that stand under `train`.

    `inductive`: a fraction of the nodes of each type is held out; every fact that touches one
    leaves training, a fact that touches a test node is a test fact.

    `transductive`: a fraction of the facts of each kind, provided that both ends keep another fact
    in training.

    `biobridge`: the released rule, kept for parity; directed rows whose head is held out, so the
    mirror image of most test rows stays in training; leaky.

    `relation`: every fact of the named triple types is a test fact. Validation is a transductive
    share of the other facts, so that model selection knows nothing of the held-out relation.

    `modality`: every fact that touches a node of the named types is a test fact, asked from that
    node. Validation holds out nodes of the other types, as `inductive` does: like a node of an
    unseen type, a validation node has no training fact.

    Args:
      graph: all facts under `train`.
      ids: the node ids of each type.
      rule: one of `RULES`.
      seed: chooses the nodes or facts by a keyed hash of their ids.
      test: fraction of nodes (or facts); unused where `hold_out` names the test facts.
      validation: likewise.
      hold_out: for `relation`, triple types as `head,relation,tail`; for `modality`, node types.
      groups: for each node its group, "" for none, aligned with `ids`; the nodes of one type and
        group (a sequence cluster, a scaffold) are held out together or not at all.

    Returns:
      The same graph with `facts` and `heldout` by split.

    Raises:
      InputError: an unknown rule or name, or a split that leaves nothing to train on or to test.
    """
    if rule not in RULES:
        raise unknown("split rule", rule, RULES, "this version")
    named = rule in ("relation", "modality")
    if named != bool(hold_out):
        need = "name with hold_out what to hold out" if named else "takes no hold_out"
        raise InputError(f"split rule {rule!r}: {need}")
    if groups is not None and rule not in _BY_NODE:
        raise InputError(f"split rule {rule!r} holds out no nodes, so groups have no meaning")
    test = 0.0 if named else test
    if not ((test > 0 or named) and validation >= 0 and test + validation < 1):
        raise InputError(f"test {test} and validation {validation} must lie within (0, 1) together")

    facts = graph.facts["train"]
    heldout: dict[str, np.ndarray] = {}
    if rule == "transductive":
        part = _transductive(graph, facts, ids, seed, test, validation)
    elif rule == "relation":
        held = _of_kinds(graph, facts, hold_out)
        part = np.full(len(facts), 2, np.int8)
        part[~held] = _transductive(graph, facts[~held], ids, seed, test, validation)
    else:
        part_of_node = _hold_out(graph, ids, seed, test, validation, groups)
        for name in hold_out:
            part_of_node[graph.types_of(np.arange(len(part_of_node))) == graph.type_id(name)] = 2
        heldout = {
            s: np.flatnonzero(part_of_node == i).astype(np.int32) for i, s in enumerate(SPLITS) if i
        }
        if rule == "biobridge":
            facts = _stored_rows(facts)
            part = part_of_node[facts.head]
        else:
            part = np.maximum(part_of_node[facts.head], part_of_node[facts.tail])
    for i, split in ((0, "train"), (2, "test")):
        if not (part == i).any():
            raise InputError(
                f"split rule {rule!r} with test {test}, validation {validation} leaves no {split} "
                f"fact of {len(facts)}; hold out another share or another part"
            )
    return replace(
        graph,
        facts={s: facts[part == i] for i, s in enumerate(SPLITS)},
        heldout=heldout,
        directed=rule == "biobridge",
    )


def _stored_rows(facts: Facts) -> Facts:
    """The directed rows as the source stored them, less exact duplicates."""
    back = facts.mirrored == 1
    return Facts(
        np.concatenate([facts.head, facts.tail[back]]),
        np.concatenate([facts.relation, facts.relation[back]]),
        np.concatenate([facts.tail, facts.head[back]]),
        np.concatenate([facts.mirrored, facts.mirrored[back]]),
    )


def _of_kinds(graph: Graph, facts: Facts, names: Sequence[str]) -> np.ndarray:
    """Bool `[facts]`: which facts are of the triple types named `head,relation,tail`."""
    head, tail = graph.types_of(facts.head), graph.types_of(facts.tail)
    held = np.zeros(len(facts), bool)
    for name in names:
        parts = [p.strip() for p in name.split(",")]
        if len(parts) != 3:
            raise InputError(f"triple type {name!r} must read head,relation,tail")
        kind = graph.triple_type(*parts)
        ends = graph.type_id(kind.head), graph.type_id(kind.tail)
        either_way = [(head == a) & (tail == b) for a, b in (ends, ends[::-1])]
        held |= (facts.relation == graph.relation_id(kind.relation)) & np.logical_or(*either_way)
    return held


def _hold_out(
    graph: Graph,
    ids: Sequence[Sequence[str]],
    seed: int,
    test: float,
    validation: float,
    groups: Sequence[Sequence[str]] | None,
) -> np.ndarray:
    """The split of every node: 0, 1 or 2 as in `SPLITS`."""
    parts = []
    for i, (kind, names) in enumerate(zip(graph.node_types, ids, strict=True)):
        own = [f"{kind}\t{n}" for n in names]
        given = groups[i] if groups is not None else [""] * len(names)
        keys = [f"group\t{kind}\t{g}" if g else o for g, o in zip(given, own, strict=True)]
        sizes = Counter(keys)
        room = {2: round(test * len(names)), 1: round(validation * len(names))}
        part_of: dict[str, int] = {}
        unique = list(sizes)
        for k in _by_hash(seed, unique).tolist():
            to = next((s for s in (2, 1) if sizes[unique[k]] <= room[s]), 0)
            part_of[unique[k]] = to
            if to:
                room[to] -= sizes[unique[k]]
        parts.append(np.array([part_of[k] for k in keys], np.int8))
    return np.concatenate(parts)


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
