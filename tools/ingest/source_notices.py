"""Notices about a source, and the first cause of an import that cannot succeed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from bridge_jax.data.delimited_text import CUT
from bridge_jax.data.graph import Graph
from bridge_jax.data.manifest import SPLITS
from bridge_jax.data.splits import CollapsedEdges
from bridge_jax.errors import InputError, unknown

from ..formats.delimited import Finding
from ..formats.edges import Edges
from .node_matching import MatchedNodes, NodeGroups
from .similarity import MatchedPairs

# What to do about the most frequent reason of the rejects, by the start of the reason.
_REMEDIES = {
    "head without a type": "write ids as type::id, or use --format kgx with a table of nodes",
    "tail without a type": "write ids as type::id, or use --format kgx with a table of nodes",
    "no embeddings of type": "add a file of that type to --embeddings",
    "no embedding of this": "the ids of the embeddings must be those of the graph",
}


def summarise(findings: Iterable[Finding]) -> str:
    """Returns the number of rows and the first place of each reason, most frequent first."""
    count: Counter[str] = Counter()
    first: dict[str, str] = {}
    for f in findings:
        count[f.reason] += max(f.num_rows, 1)
        first.setdefault(f.reason, f"{f.file} row {f.row}" if f.row else f.text)
    return "; ".join(f"{n} × {r} (first: {first[r]})" for r, n in count.most_common())


def first_cause(rejects: Sequence[Finding], num_rows: int) -> str:
    """Returns why most rows of a source cannot be used, and what to do about it.

    Args:
      rejects: All rejects of the source.
      num_rows: Number of its rows.
    """
    count: Counter[str] = Counter()
    for f in rejects:
        count[f.reason] += f.num_rows
    reason = count.most_common(1)[0][0]
    first = min((f for f in rejects if f.reason == reason), key=lambda f: (f.file, f.row))
    texts = [f"{count[reason]} of {num_rows} rows: {reason} (first: {first.file} row {first.row})"]
    texts += [f"{n} rows: {r}" for r, n in count.most_common(4)[1:]]
    remedy = next((text for start, text in _REMEDIES.items() if reason.startswith(start)), "")
    return ", ".join(texts) + (f"; {remedy}" if remedy else "")


def check_usable(edges: Edges) -> None:
    """Checks that a source has a usable edge.

    Raises:
      InputError: It has none; the message is the reason.
    """
    if not len(edges.row):
        if not edges.rejects:
            raise InputError(f"no row of edges in {', '.join(edges.files) or 'the source'}")
        cause = first_cause(edges.rejects, edges.num_rows)
        raise InputError(f"no usable fact in {edges.num_rows} rows: {cause}")


@contextmanager
def led_by_first_cause(rejects: Sequence[Finding], num_rows: int) -> Iterator[None]:
    """Puts what is wrong with a source before the message of an `InputError` that follows from it.

    That is the reason of its rejects, if they are most of its rows, or that a file is cut.

    Args:
      rejects: Rejects of the source.
      num_rows: Number of its rows.
    """
    try:
        yield
    except InputError as e:
        if cut := next((f for f in rejects if f.reason == CUT), None):
            raise InputError(f"{cut.file} row {cut.row}: {CUT}; therefore {e}") from e
        if 2 * sum(f.num_rows for f in rejects) > num_rows:
            raise InputError(f"{first_cause(rejects, num_rows)}; therefore {e}") from e
        raise


def directed_relation_ids(edges: Edges, names: Sequence[str]) -> list[int]:
    """Returns the indices of relations that are to stay directed.

    Args:
      edges: Edges of the source.
      names: Names of the relations.

    Raises:
      InputError: The source has no such relation, or it joins no two nodes of one type.
    """
    within = relations_within_types(edges) if names else set()
    for name in names:
        if name not in edges.relations:
            raise unknown("relation", name, edges.relations, "this graph")
        if name not in within:
            raise InputError(
                f"--directed {name!r}: this relation joins no two nodes of one type, so its "
                "direction is known from the types; leave it out"
            )
    return [edges.relations.index(name) for name in names]


def relations_within_types(edges: Edges) -> set[str]:
    """Returns the names of the relations that join nodes of one type."""
    code_of: dict[str, int] = {}
    types = np.array([code_of.setdefault(n.type, len(code_of)) for n in edges.nodes], np.int64)
    within = np.unique(edges.relation[types[edges.head] == types[edges.tail]])
    return {edges.relations[i] for i in within.tolist()}


def joined_directions(
    edges: Edges, nodes: MatchedNodes, collapsed: CollapsedEdges
) -> list[Finding]:
    """Finds relations within one node type of which some facts are stored both ways and some not.

    If such a relation is directed, its two directions are two facts, but they were taken as one.

    Returns:
      A notice for each such relation that is not kept directed.
    """
    facts = collapsed.facts
    types_of = np.repeat(np.arange(len(nodes.types)), nodes.counts)
    within = types_of[facts.head] == types_of[facts.tail]
    size = len(edges.relations)
    total = np.bincount(facts.relation[within], minlength=size)
    both = np.bincount(facts.relation[within], facts.mirrored[within], minlength=size).astype(int)
    findings = []
    for i in np.flatnonzero((both > 0) & (both < total)).tolist():
        name = edges.relations[i]
        text = (
            f"{name}: {both[i]} of {total[i]} facts are stored in both directions, each pair taken "
            f"as one fact; if the relation is directed, pass --directed {name!r}"
        )
        findings.append(Finding("", 0, "both directions of a relation taken as one", text, 0))
    return findings


def untrained_tasks(graph: Graph, hold_out: Sequence[str]) -> list[Finding]:
    """Finds triple types with facts to evaluate but none to train on.

    Args:
      graph: The split graph.
      hold_out: What the split rule holds out by intention.

    Returns:
      A notice for each such triple type, in one of its directions.
    """
    names = {tuple(word.strip() for word in name.split(",")) for name in hold_out}
    counts = {s: graph.pairs([s]) for s in SPLITS}
    findings: list[Finding] = []
    done: set[tuple[str, str, str]] = set()
    for t in graph.triple_types:
        reverse = (t.tail, t.relation, t.head)
        meant = {tuple(t), reverse} & names or {(t.head,), (t.tail,)} & names
        if reverse in done or meant or len(counts["train"][t].heads):
            continue
        done.add(tuple(t))
        facts = ", ".join(f"{s} {len(counts[s][t].heads)}" for s in SPLITS)
        findings.append(Finding("", 0, "a relation without a training fact", f"{t}: {facts}", 0))
    return findings


def groups_too_large(
    groups: NodeGroups, node_types: Sequence[str], shares: Mapping[str, float]
) -> list[Finding]:
    """Finds groups that no split can hold out, because they are larger than its share of the nodes.

    Args:
      groups: Groups of the nodes.
      node_types: Names of the node types, in the order of `groups.by_type`.
      shares: Fraction of the nodes that each held-out split takes.

    Returns:
      A notice for each such group.
    """
    findings = []
    for node_type, of_nodes in zip(node_types, groups.by_type, strict=True):
        limits = {split: round(share * len(of_nodes)) for split, share in shares.items()}
        for group, size in Counter(filter(None, of_nodes)).items():
            if size > max(1, *limits.values()):
                room = ", ".join(f"{split} {limit}" for split, limit in limits.items())
                text = (
                    f"{size} of {len(of_nodes)} {node_type} are one {groups.column} {group!r}; "
                    f"the most that can be held out: {room}"
                )
                findings.append(Finding("", 0, "a group too large to be held out", text, 0))
    return findings


def format_matches(
    nodes: MatchedNodes, edges: Edges, similarity: Iterable[MatchedPairs] = ()
) -> str:
    """Formats how the ids of each file were matched, and what is said about whole files."""
    lines = [str(match) for match in nodes.matches]
    lines += [str(matched) for matched in similarity]
    for f in edges.rejects:
        if f.reason == CUT:
            lines.append(f"notice: {f.file} row {f.row}: {CUT}")
    for f in edges.notices:
        if not f.row:
            lines.append(f"notice: {f'{f.file} {f.reason}'.strip()}: {f.text}")
    return "\n".join(lines)
