"""Collapses stored edges into facts and splits facts into training, validation and test."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Int8

from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.manifest import SPLITS
from bridge_jax.errors import InputError, unknown

SPLIT_RULES = ("inductive", "transductive", "biobridge", "relation", "modality")
_NODE_RULES = ("inductive", "biobridge", "modality")
_TRAIN, _VALIDATION, _TEST = range(3)  # indices into SPLITS


@dataclass(frozen=True)
class CollapsedEdges:
    """Facts of a graph, with `rows = len(facts) + mirrored + duplicates` of the source.

    Attributes:
      facts: Undirected facts, each once.
      mirrored: Number of facts that the source stores in both directions.
      duplicates: Number of further rows that repeat a row in the same direction.
    """

    facts: Facts
    mirrored: int
    duplicates: int


def collapse(
    head: Int[np.ndarray, "n"],
    relation: Int[np.ndarray, "n"],
    tail: Int[np.ndarray, "n"],
    types_of: Int[np.ndarray, "nodes"],
    directed: Sequence[int] = (),
) -> CollapsedEdges:
    """Collapses directed rows into undirected facts.

    Rows (h, r, t) and (t, r, h) are one fact. All facts of one relation between two node types get
    the direction of the first of them. Facts within one node type keep the direction of their first
    row. Within one node type, rows (h, r, t) and (t, r, h) of a directed relation are two facts.

    Args:
      head: Global node ids.
      relation: Relation ids.
      tail: Global node ids; never equal to `head`, since self-loops are rejected before.
      types_of: Node type index of every global node id.
      directed: Ids of the relations that are directed; default: none.

    Returns:
      Facts in the order of their first rows, and counts.
    """
    if not len(head):
        return CollapsedEdges(Facts.concatenate(()), 0, 0)
    num_nodes = np.int64(len(types_of))
    low, high = np.minimum(head, tail).astype(np.int64), np.maximum(head, tail)
    if len(directed):
        one_way = np.isin(relation, directed) & (types_of[head] == types_of[tail])
        low, high = np.where(one_way, head, low), np.where(one_way, tail, high)
    keys = (relation * num_nodes + low) * num_nodes + high
    _, first, fact_of_row = np.unique(keys, return_index=True, return_inverse=True)
    is_reverse = (head != head[first][fact_of_row]).astype(np.int8)
    has_reverse = np.zeros(len(first), bool)
    has_reverse[fact_of_row[is_reverse == 1]] = True

    order = np.argsort(first, kind="stable")
    rows, mirrored = first[order], has_reverse[order]
    h, r, t = head[rows], relation[rows], tail[rows]
    num_types = np.int64(types_of.max() + 1)
    low_type, high_type = (f(types_of[h], types_of[t]) for f in (np.minimum, np.maximum))
    type_keys = (r * num_types + low_type) * num_types + high_type
    _, first_of_type, type_of_fact = np.unique(type_keys, return_index=True, return_inverse=True)
    swap = types_of[h] != types_of[h[first_of_type]][type_of_fact]
    h, t = np.where(swap, t, h), np.where(swap, h, t)
    facts = Facts(*(a.astype(np.int32) for a in (h, r, t, mirrored)))
    num_mirrored = int(mirrored.sum())
    return CollapsedEdges(facts, num_mirrored, len(head) - len(facts) - num_mirrored)


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
    """Splits all facts of a graph into training, validation and test facts.

    The split rules:

    `inductive` holds out a fraction of the nodes of each type. A fact with a test node is a test
    fact, any other fact with a validation node is a validation fact.

    `transductive` holds out a fraction of the facts of each triple type. Every node keeps at least
    one training fact.

    `biobridge` is the split rule of the BioBridge release, kept for comparison. It holds out nodes,
    and a directed row belongs to the split of its head. This split leaks: the mirror images of most
    test rows stay in training.

    `relation` makes every fact of the named triple types a test fact. Validation facts are a
    transductive sample of the others, so model selection does not see the held-out relation.

    `modality` makes every fact of the named node types a test fact, queried from the node of that
    type. Validation holds out nodes of the other types, as `inductive` does; like a node of an
    unseen type, a validation node has no training fact.

    Args:
      graph: Graph with all facts under `train`.
      ids: Node ids of each node type.
      rule: One of `SPLIT_RULES`.
      seed: Seed of a keyed hash of the ids, which selects nodes or facts independently of their
        order in the source.
      test: Fraction of nodes (or facts) for testing, default 0.10; unused if `hold_out` names the
        test facts.
      validation: Fraction of nodes (or facts) for validation, default 0.05.
      hold_out: With `relation`, triple types as `head,relation,tail`; with `modality`, node types.
      groups: Group of each node, aligned with `ids`, "" for none; default no groups. The nodes of
        one type and group (e.g. sequence cluster or scaffold) go to the same split.

    Returns:
      Graph with `facts` and `heldout` by split.

    Raises:
      InputError: The rule or a name is unknown, an option does not fit the rule, or no facts are
        left for training or testing.
    """
    test = _check_arguments(rule, test, validation, hold_out, groups)
    facts = graph.facts["train"]
    heldout: dict[str, np.ndarray] = {}
    if rule == "transductive":
        split_of_fact = _split_transductive(graph, facts, ids, seed, test, validation)
    elif rule == "relation":
        in_test = _of_triple_types(graph, facts, hold_out)
        split_of_fact = np.full(len(facts), _TEST, np.int8)
        split_of_fact[~in_test] = _split_transductive(
            graph, facts[~in_test], ids, seed, test, validation
        )
    else:
        split_of_node = _split_nodes(graph, ids, seed, test, validation, groups)
        node_types = graph.types_of(np.arange(len(split_of_node)))
        for name in hold_out:
            split_of_node[node_types == graph.type_id(name)] = _TEST
        heldout = {
            SPLITS[i]: np.flatnonzero(split_of_node == i).astype(np.int32)
            for i in (_VALIDATION, _TEST)
        }
        if rule == "biobridge":
            facts = _stored_rows(facts)
            split_of_fact = split_of_node[facts.head]
        else:
            split_of_fact = np.maximum(split_of_node[facts.head], split_of_node[facts.tail])
    for i in (_TRAIN, _TEST):
        if not (split_of_fact == i).any():
            raise InputError(
                f"split rule {rule!r} with test {test}, validation {validation} leaves no "
                f"{SPLITS[i]} fact of {len(facts)}; change the fractions or what is held out"
            )
    return replace(
        graph,
        facts={split: facts[split_of_fact == i] for i, split in enumerate(SPLITS)},
        heldout=heldout,
        directed=rule == "biobridge",
    )


def _check_arguments(
    rule: str,
    test: float,
    validation: float,
    hold_out: Sequence[str],
    groups: Sequence[Sequence[str]] | None,
) -> float:
    """Checks the arguments of `split_facts`; returns the fraction of nodes or facts for testing."""
    if rule not in SPLIT_RULES:
        raise unknown("split rule", rule, SPLIT_RULES, "this version")
    needs_names = rule in ("relation", "modality")
    if needs_names != bool(hold_out):
        remedy = "name with hold_out what to hold out" if needs_names else "takes no hold_out"
        raise InputError(f"split rule {rule!r}: {remedy}")
    if groups is not None and rule not in _NODE_RULES:
        raise InputError(
            f"split rule {rule!r} holds out no nodes, so groups have no meaning; drop them, or use "
            f"one of {', '.join(_NODE_RULES)}"
        )
    test = 0.0 if needs_names else test
    if not ((test > 0 or needs_names) and validation >= 0 and test + validation < 1):
        raise InputError(f"test {test} and validation {validation} must lie within (0, 1) together")
    return test


def _stored_rows(facts: Facts) -> Facts:
    """Returns the directed rows of the source without duplicates."""
    back = facts[facts.mirrored == 1]
    reverse = Facts(back.tail, back.relation, back.head, back.mirrored)
    return Facts.concatenate((facts, reverse))


def _of_triple_types(graph: Graph, facts: Facts, names: Sequence[str]) -> Bool[np.ndarray, "n"]:
    """Returns which facts are of the triple types with names `head,relation,tail`."""
    head_types, tail_types = graph.types_of(facts.head), graph.types_of(facts.tail)
    mask = np.zeros(len(facts), bool)
    for name in names:
        words = [word.strip() for word in name.split(",")]
        if len(words) != 3:
            raise InputError(f"triple type {name!r} must read head,relation,tail")
        triple_type = graph.triple_type(*words)
        mask |= graph.fact_mask(triple_type, head_types, facts.relation, tail_types)
    return mask


def _hash_order(seed: int, names: Sequence[str]) -> Int[np.ndarray, "n"]:
    """Sorts names by a keyed hash, so that the order does not depend on the source's."""
    key = str(seed).encode()
    digests = [hashlib.blake2b(n.encode(), digest_size=8, key=key).digest() for n in names]
    return np.argsort(np.frombuffer(b"".join(digests), ">u8"), kind="stable")


def _split_nodes(
    graph: Graph,
    ids: Sequence[Sequence[str]],
    seed: int,
    test: float,
    validation: float,
    groups: Sequence[Sequence[str]] | None,
) -> Int8[np.ndarray, "nodes"]:
    """Returns the split index of every node, in the order of the global ids."""
    splits = []
    for i, (node_type, names) in enumerate(zip(graph.node_types, ids, strict=True)):
        unit_names = [f"{node_type}\t{name}" for name in names]  # units are held out as a whole
        if groups is not None:
            unit_names = [
                f"group\t{node_type}\t{group}" if group else name
                for group, name in zip(groups[i], unit_names, strict=True)
            ]
        unit_sizes = Counter(unit_names)
        capacity = {_TEST: round(test * len(names)), _VALIDATION: round(validation * len(names))}
        split_of_unit = _assign_units(seed, unit_sizes, capacity)
        splits.append(np.array([split_of_unit[name] for name in unit_names], np.int8))
    return np.concatenate(splits)


def _assign_units(
    seed: int, unit_sizes: Mapping[str, int], capacity: dict[int, int]
) -> dict[str, int]:
    """Assigns each unit to the first held-out split with room for it, else to training."""
    names = list(unit_sizes)
    split_of_unit = {}
    for k in _hash_order(seed, names).tolist():
        size = unit_sizes[names[k]]
        split = next((s for s in (_TEST, _VALIDATION) if size <= capacity[s]), _TRAIN)
        split_of_unit[names[k]] = split
        if split != _TRAIN:
            capacity[split] -= size
    return split_of_unit


def _split_transductive(
    graph: Graph,
    facts: Facts,
    ids: Sequence[Sequence[str]],
    seed: int,
    test: float,
    validation: float,
) -> Int8[np.ndarray, "n"]:
    """Returns the split index of every fact; each node keeps a training fact."""
    names = [name for names in ids for name in names]
    columns = zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True)
    fact_names = [f"{names[h]}\t{graph.relations[r]}\t{names[t]}" for h, r, t in columns]
    order = _hash_order(seed, fact_names)
    type_ids = np.stack([graph.types_of(facts.head), facts.relation, graph.types_of(facts.tail)])
    _, type_of_fact = np.unique(type_ids, axis=1, return_inverse=True)
    counts = np.bincount(type_of_fact.ravel())
    wanted = np.round(np.outer((0, validation, test), counts)).astype(int)  # [split, triple type]
    degree = np.bincount(np.concatenate([facts.head, facts.tail]), minlength=sum(graph.counts))
    split_of_fact = np.zeros(len(facts), np.int8)
    for i in order.tolist():
        k, h, t = type_of_fact.flat[i], facts.head[i], facts.tail[i]
        split = _TEST if wanted[_TEST, k] else _VALIDATION if wanted[_VALIDATION, k] else _TRAIN
        if split != _TRAIN and degree[h] > 1 and degree[t] > 1:
            split_of_fact[i] = split
            wanted[split, k] -= 1
            degree[h] -= 1
            degree[t] -= 1
    return split_of_fact
