"""Matching of embeddings, as people have them, to the nodes of a graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from unicodedata import normalize

import numpy as np

from bridge_jax.data.findings import Findings
from bridge_jax.data.synonyms import distinct_synonyms
from bridge_jax.errors import InputError

from ..formats.delimited import Finding
from ..formats.edges import Edges
from .embeddings import Embeddings
from .id_matching import EXACT, FileMatch, MatchOptions, check_match
from .node_features import read_groups_of_nodes, read_names
from .node_lookup import NodeLookup, check_file_names, without_type


@dataclass(frozen=True)
class MatchedNodes:
    """Nodes of a dataset: those with an embedding, grouped by type.

    Attributes:
      types: Node types, in the order of their ids; a type without a table has no nodes.
      tables: Embeddings by node type, with the graph's ids.
      names: Display names by (type, id).
      global_ids: `[source nodes]` global id of each of `Edges.nodes`, or -1 without an embedding.
      matches: How the ids of each file were matched.
      notices: Files that are not used.
      unmatched: Numbers of vectors without a node in the edges, by file, for the manifest.
      synonyms: Synonyms by (type, id); a node without one has no entry.
    """

    types: tuple[str, ...]
    tables: dict[str, Embeddings]
    names: dict[tuple[str, str], str]
    global_ids: np.ndarray
    matches: Sequence[FileMatch] = ()
    notices: Sequence[Finding] = ()
    unmatched: Mapping[str, int] = field(default_factory=dict)
    synonyms: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)

    @property
    def ids(self) -> list[list[str]]:
        """Node ids, by type."""
        return [self.tables[t].ids if t in self.tables else [] for t in self.types]

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of nodes, by type."""
        return tuple(map(len, self.ids))


@dataclass(frozen=True)
class NodeGroups:
    """Groups of nodes that a split holds out together.

    Attributes:
      column: Name of the feature column.
      by_type: For each node type the group of each of its ids; "" for none.
    """

    column: str
    by_type: list[list[str]]


def match_nodes(
    edges: Edges,
    embeddings: Mapping[str, Embeddings],
    features: str | None,
    options: MatchOptions = EXACT,
) -> MatchedNodes:
    """Matches embeddings to the nodes of the edges.

    A vector whose id is not a node of the graph becomes a node without edges. A vector whose node
    index is not in the graph is left out, as the index is not its id (see `_may_be_new`).

    Args:
      edges: Edges of the source, as `unify_spellings` returns them.
      embeddings: Embeddings by file stem.
      features: Folder of feature tables with node names, or None.
      options: How ids are compared.

    Raises:
      InputError: No file fits a node type, two files fit the same one, or too few ids of a file are
        nodes.
    """
    lookup = NodeLookup(edges.nodes)
    tables: dict[str, Embeddings] = {}
    matches: list[FileMatch] = []
    notices = Findings()
    counts: dict[str, int] = {}
    _check_stems(embeddings, options)
    for stem, table in embeddings.items():
        node_type = lookup.type_of_file(stem)
        if node_type is None:
            text = f"{len(table.ids)} embeddings; the graph has the node types {_types(lookup)}"
            notices.append(Finding(_name(stem, table), 0, "fits no node type", text, 0))
            continue
        if node_type in tables:
            raise InputError(
                f"embeddings {stem!r}: {node_type} has embeddings already; keep one file"
            )
        tables[node_type], match, new_counts = _match_file(lookup, node_type, stem, table, options)
        matches.append(match)
        counts |= new_counts
    if not tables:
        stems = ", ".join(map(repr, embeddings))
        raise InputError(
            f"embeddings {stems} fit no node type of the graph; it has: {_types(lookup)}"
        )
    check_file_names(tables)
    id_of: dict[tuple[str, str], int] = {}
    start = 0
    for node_type in sorted(tables):
        ids = tables[node_type].ids
        id_of |= {(node_type, i): start + k for k, i in enumerate(ids)}
        _add_table(lookup, node_type, tables[node_type])
        start += len(ids)
    global_ids = np.array([id_of.get((n.type, n.id), -1) for n in edges.nodes], np.int64)
    names = {(n.type, n.id): n.name for n in edges.nodes if n.name}
    other_names, lists = read_names(lookup, features, options, matches, notices)
    names = other_names | names
    return MatchedNodes(
        tuple(sorted(tables)), tables, names, global_ids, matches, notices, counts,
        _join_synonyms(edges.synonyms, lists, names),
    )  # fmt: skip


def _join_synonyms(
    of_edges: Mapping[tuple[str, str], str],
    of_features: Mapping[tuple[str, str], Sequence[str]],
    names: Mapping[tuple[str, str], str],
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Joins the synonyms of a graph and of feature tables; all are lists separated by `|`."""
    joined = {}
    for key in dict.fromkeys((*of_edges, *of_features)):
        texts = [normalize("NFC", t) for t in (of_edges.get(key, ""), *of_features.get(key, ()))]
        if words := distinct_synonyms(texts, names.get(key, "")):
            joined[key] = words
    return joined


def read_groups(
    edges: Edges,
    nodes: MatchedNodes,
    folder: str | None,
    column: str | None,
    options: MatchOptions = EXACT,
) -> NodeGroups | None:
    """Reads the group of each node from the feature tables.

    Args:
      edges: Edges of the source.
      nodes: Nodes to group.
      folder: Folder of feature tables.
      column: Name of the group column, such as a sequence cluster or a scaffold; an empty or a
        missing value (`NA`) is no group. Tables without the column are skipped.
      options: How ids are compared.

    Returns:
      The groups; None if `column` is None.

    Raises:
      InputError: No table has the column.
    """
    if not column:
        return None
    lookup = NodeLookup(edges.nodes)
    for node_type, table in nodes.tables.items():
        _add_table(lookup, node_type, table)
    groups = read_groups_of_nodes(lookup, folder, column, options)
    by_type = [[groups.get((t, i), "") for i in nodes.tables[t].ids] for t in nodes.types]
    return NodeGroups(column, by_type)


def _match_file(
    lookup: NodeLookup, node_type: str, stem: str, table: Embeddings, options: MatchOptions
) -> tuple[Embeddings, FileMatch, dict[str, int]]:
    """Matches one file; returns it with the graph's ids, the match, and counts of the rest."""
    by_index = table.id_column == "node_index" or stem in options.node_index_files
    file = _name(stem, table)
    extracted = [options.extract(i) for i in table.ids]
    find = lookup.find_index if by_index else lookup.find
    matched = [find(node_type, i) for i in extracted]
    unmatched = [i for i, m in zip(table.ids, matched, strict=True) if m is None]
    match = FileMatch(
        file,
        node_type,
        len(matched),
        len(matched) - len(unmatched),
        unmatched[0] if unmatched else "",
        lookup.example(node_type),
    )
    index_stem = None if by_index else stem
    check_match(lookup, match, index_stem, extracted, unmatched, options)
    counts: dict[str, int] = {}
    new_ids = [without_type(i, node_type) for i in extracted]
    kept = [m is not None or _may_be_new(lookup, node_type, i, by_index, stem, options)
            for m, i in zip(matched, new_ids, strict=True)]  # fmt: skip
    rows = np.flatnonzero(kept)
    ids = [matched[r] or new_ids[r] for r in rows.tolist()]
    x = table.x if len(rows) == len(matched) else table.x[rows]
    outcomes = []
    if num_new := len(rows) - match.num_matched:
        outcomes.append(f"{num_new} become nodes without a fact")
        counts[f"nodes only in embeddings: {file}"] = num_new
    if num_lost := len(matched) - len(rows):
        outcomes.append(f"{num_lost} are left out: their ids are unknown")
        counts[f"vectors without a node: {file}"] = num_lost
    match = replace(match, outcome=", ".join(outcomes))
    stored_ids = [table.ids[r] for r in rows.tolist()]
    _check_distinct(file, node_type, ids, stored_ids)
    id_column = "node_index" if by_index else "node_id"
    return Embeddings(ids, x, table.metadata, id_column, file), match, counts


def _may_be_new(
    lookup: NodeLookup, node_type: str, id_: str, by_index: bool, stem: str, options: MatchOptions
) -> bool:
    """Whether an unmatched id becomes a node.

    A node index is an id only in the project's own exports, for a node without an id and an edge,
    and never if it is the id of another node.
    """
    if not by_index:
        return True
    return stem not in options.node_index_files and lookup.find(node_type, id_) is None


def _add_table(lookup: NodeLookup, node_type: str, table: Embeddings) -> None:
    """Adds the nodes of a matched table to a lookup."""
    if table.id_column == "node_index":
        lookup.add_indices(node_type, table.ids)
    lookup.add_ids(node_type, table.ids)


def _check_distinct(
    file: str, node_type: str, ids: Sequence[str], stored_ids: Sequence[str]
) -> None:
    """Checks that no two different ids of a file stand for one node."""
    if len(set(ids)) == len(ids):
        return
    repeated = next(i for i, n in Counter(ids).items() if n > 1)
    spellings = [s for i, s in zip(ids, stored_ids, strict=True) if i == repeated]
    if len(set(spellings)) > 1:
        first, second = list(dict.fromkeys(spellings))[:2]
        raise InputError(
            f"{file}: {first!r} and {second!r} are both {node_type} {repeated!r}; keep one of them"
        )


def _check_stems(embeddings: Mapping[str, Embeddings], options: MatchOptions) -> None:
    for stem in options.node_index_files:
        if stem not in embeddings:
            raise InputError(
                f"--node-index-ids {stem}: no such file of embeddings; there are: "
                f"{', '.join(embeddings)}"
            )


def _name(stem: str, table: Embeddings) -> str:
    return table.file or stem


def _types(lookup: NodeLookup) -> str:
    return ", ".join(lookup.types)
