"""Matching of embeddings, names and groups, as people have them, to the nodes of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge_jax.data.embedding_files import stem_matches_type
from bridge_jax.errors import InputError, unknown

from ..formats.edges import Edges
from ..formats.features import choose_columns, read_features, read_header
from .embeddings import Embeddings


@dataclass(frozen=True)
class MatchedNodes:
    """Nodes of a dataset: those with an embedding, grouped by type.

    Attributes:
      types: Node types, in the order of their ids; a type without a table has no nodes.
      tables: Embeddings by node type, with the graph's ids.
      names: Display names by (type, id).
      global_ids: `[source nodes]` global id of each of `Edges.nodes`, or -1 without an embedding.
    """

    types: tuple[str, ...]
    tables: dict[str, Embeddings]
    names: dict[tuple[str, str], str]
    global_ids: np.ndarray

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


class NodeLookup:
    """Finds nodes of a source by id, by typed id (`Gene::9021`) or by node index."""

    def __init__(self, edges: Edges) -> None:
        self.types = tuple(sorted({n.type for n in edges.nodes}))
        self._ids = {(n.type, n.id) for n in edges.nodes}
        self._id_of_index = {(n.type, n.node_index): n.id for n in edges.nodes if n.node_index}

    def find(self, node_type: str, id_: str, node_index: str = "") -> str | None:
        """Returns the graph's id of a node, or None.

        Args:
          node_type: Node type.
          id_: Id or typed id; may be empty.
          node_index: Node index, tried if the id is not found; default: none.
        """
        for candidate in (id_, id_.removeprefix(f"{node_type}::")):
            if (node_type, candidate) in self._ids:
                return candidate
        return self._id_of_index.get((node_type, node_index)) if node_index else None

    def types_of_file(self, stem: str) -> list[str]:
        """Returns the node types that a file stem may refer to."""
        return [node_type for node_type in self.types if stem_matches_type(stem, node_type)]


def match_nodes(
    edges: Edges, embeddings: Mapping[str, Embeddings], features: str | None
) -> MatchedNodes:
    """Matches embeddings to the nodes of the edges.

    Args:
      edges: Edges of the source.
      embeddings: Embeddings by file stem.
      features: Folder of feature tables with node names, or None.

    Raises:
      InputError: A file fits no node type, two files fit the same one, or none of the ids of a file
        is a node.
    """
    lookup = NodeLookup(edges)
    tables: dict[str, Embeddings] = {}
    for stem, table in embeddings.items():
        node_types = lookup.types_of_file(stem)
        if not node_types:
            raise InputError(
                f"embeddings {stem!r} fit no node type of the graph; it has: "
                f"{', '.join(lookup.types)}"
            )
        node_type = node_types[0]
        if node_type in tables:
            raise InputError(
                f"embeddings {stem!r}: {node_type} has embeddings already; keep one file"
            )
        by_index = table.id_column == "node_index"
        matched = [
            lookup.find(node_type, "", i) if by_index else lookup.find(node_type, i)
            for i in table.ids
        ]
        if not any(matched):
            raise InputError(
                f"none of the {len(matched)} ids of embeddings {stem!r} is a {node_type} of the "
                f"graph, e.g. {table.ids[0]!r}; the graph has e.g. {_example(edges, node_type)!r}"
            )
        ids = [m or i for m, i in zip(matched, table.ids, strict=True)]
        tables[node_type] = Embeddings(ids, table.x, table.metadata)
    id_of: dict[tuple[str, str], int] = {}
    start = 0
    for node_type in sorted(tables):
        ids = tables[node_type].ids
        id_of |= {(node_type, i): start + k for k, i in enumerate(ids)}
        start += len(ids)
    global_ids = np.array([id_of.get((n.type, n.id), -1) for n in edges.nodes], np.int64)
    names = _names(edges, lookup, features)
    return MatchedNodes(tuple(sorted(tables)), tables, names, global_ids)


def _example(edges: Edges, node_type: str) -> str:
    return next((n.id for n in edges.nodes if n.type == node_type), "")


def _names(edges: Edges, lookup: NodeLookup, folder: str | None) -> dict[tuple[str, str], str]:
    names = {(n.type, n.id): n.name for n in edges.nodes if n.name}
    for path in _feature_tables(folder):
        for node_type in lookup.types_of_file(path.name.split(".")[0]):
            for row in read_features(path):
                id_ = lookup.find(node_type, row.id, row.node_index) or row.id
                names.setdefault((node_type, id_), row.name)
    return names


def read_groups(
    edges: Edges, nodes: MatchedNodes, folder: str | None, column: str | None
) -> NodeGroups | None:
    """Reads the group of each node from the feature tables.

    Args:
      edges: Edges of the source.
      nodes: Nodes to group.
      folder: Folder of feature tables.
      column: Name of the group column, such as a sequence cluster or a scaffold; an empty value is
        no group. Tables without the column are skipped.

    Returns:
      The groups; None if `column` is None.

    Raises:
      InputError: No table has the column.
    """
    if not column:
        return None
    lookup = NodeLookup(edges)
    groups: dict[tuple[str, str], str] = {}
    all_columns: set[str] = set()
    for path in _feature_tables(folder):
        header = read_header(path)
        all_columns |= set(header)
        if column not in header:
            continue
        for node_type in lookup.types_of_file(path.name.split(".")[0]):
            for row in read_features(path, choose_columns(path, text_columns=(column,))):
                id_ = lookup.find(node_type, row.id, row.node_index) or row.id
                groups[(node_type, id_)] = row.text
    if not groups:
        where = str(folder) if folder else "--features (none given)"
        raise unknown("group column", column, sorted(all_columns), where)
    by_type = [[groups.get((t, i), "") for i in nodes.tables[t].ids] for t in nodes.types]
    return NodeGroups(column, by_type)


def _feature_tables(folder: str | None) -> list[Path]:
    """Returns the feature tables of a folder, plain or gzipped."""
    if folder and not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder of feature tables")
    return sorted(Path(folder).glob("*.csv*")) if folder else []
