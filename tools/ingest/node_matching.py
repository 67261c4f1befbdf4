"""Match what people have of nodes (embeddings, names, groups) to the nodes of a graph."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge_jax.data.embedding_files import matches
from bridge_jax.errors import InputError, unknown

from ..formats.delimited import first_line
from ..formats.edges import Edges
from ..formats.features import choose_columns, read_features
from .embeddings import Embeddings


@dataclass(frozen=True)
class Nodes:
    """The nodes a dataset will hold: those with an embedding, type by type.

    Attributes:
      types: node types, in the order of their ids; one without a table has no nodes.
      tables: embeddings by type; ids are the graph's own.
      names: name by (type, id).
      of_edges: for each node that the edges name its global id, or -1.
    """

    types: tuple[str, ...]
    tables: dict[str, Embeddings]
    names: dict[tuple[str, str], str]
    of_edges: np.ndarray

    @property
    def ids(self) -> list[list[str]]:
        """The ids of each type."""
        return [self.tables[t].ids if t in self.tables else [] for t in self.types]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many nodes each type has."""
        return tuple(map(len, self.ids))


@dataclass(frozen=True)
class Groups:
    """Nodes that a split keeps together.

    Attributes:
      column: the feature column that says so.
      of_nodes: for each node type the groups of its ids, "" for none.
    """

    column: str
    of_nodes: list[list[str]]


class Known:
    """The nodes of a source, found by id, by typed id (`Gene::9021`), or by node index."""

    def __init__(self, edges: Edges) -> None:
        self.types = tuple(sorted({n.type for n in edges.nodes}))
        self._ids = {(n.type, n.id) for n in edges.nodes}
        self._by_index = {(n.type, n.index): n.id for n in edges.nodes if n.index}

    def id_of(self, kind: str, name: str, index: str = "") -> str | None:
        """The graph's own id of a node of a type, or None."""
        typed = name.removeprefix(f"{kind}::")
        for candidate in (name, typed):
            if (kind, candidate) in self._ids:
                return candidate
        return self._by_index.get((kind, index)) if index else None

    def types_of_file(self, stem: str) -> list[str]:
        """The node types that a file stem names."""
        return [kind for kind in self.types if matches(stem, kind)]


def gather_nodes(edges: Edges, found: Mapping[str, Embeddings], features: str | None) -> Nodes:
    """Match embeddings to the edges' nodes.

    Args:
      edges: the source's edges.
      found: embeddings by file stem.
      features: a folder of feature tables that name nodes, or None.

    Raises:
      InputError: no node type fits a file, or two files one type, or none of a file's ids is a
        node.
    """
    known = Known(edges)
    tables: dict[str, Embeddings] = {}
    for stem, table in found.items():
        kinds = known.types_of_file(stem)
        if not kinds:
            raise InputError(
                f"embeddings {stem!r} fit no node type of the graph; it has: "
                f"{', '.join(known.types)}"
            )
        kind = kinds[0]
        if kind in tables:
            raise InputError(f"embeddings {stem!r}: {kind} has embeddings already; keep one file")
        by_index = table.id_column == "node_index"
        own = [known.id_of(kind, "" if by_index else i, i if by_index else "") for i in table.ids]
        if not any(own):
            raise InputError(
                f"none of the {len(own)} ids of embeddings {stem!r} is a {kind} of the graph, "
                f"e.g. {table.ids[0]!r}; the graph has e.g. {_example(edges, kind)!r}"
            )
        ids = [mine or theirs for mine, theirs in zip(own, table.ids, strict=True)]
        tables[kind] = Embeddings(ids, table.x, table.about)
    start = 0
    place: dict[tuple[str, str], int] = {}
    for kind in sorted(tables):
        place |= {(kind, i): start + k for k, i in enumerate(tables[kind].ids)}
        start += len(tables[kind].ids)
    of_edges = np.array([place.get((n.type, n.id), -1) for n in edges.nodes], np.int64)
    return Nodes(tuple(sorted(tables)), tables, _names(edges, known, features), of_edges)


def _example(edges: Edges, kind: str) -> str:
    return next((n.id for n in edges.nodes if n.type == kind), "")


def _names(edges: Edges, known: Known, folder: str | None) -> dict[tuple[str, str], str]:
    names = {(n.type, n.id): n.name for n in edges.nodes if n.name}
    for path in _tables(folder):
        for kind in known.types_of_file(path.name.split(".")[0]):
            for f in read_features(path):
                own = known.id_of(kind, f.id, f.index)
                names.setdefault((kind, own or f.id), f.name)
    return names


def read_groups(
    edges: Edges, nodes: Nodes, folder: str | None, column: str | None
) -> Groups | None:
    """Read the group of each node from the feature tables that have such a column.

    Args:
      edges: the source's edges.
      nodes: the nodes to group.
      folder: the feature tables.
      column: holds a sequence cluster, a scaffold, …; an empty value is no group. None for none.

    Raises:
      InputError: no table has the column.
    """
    if not column:
        return None
    known = Known(edges)
    groups: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    for path in _tables(folder):
        header = next(csv.reader([first_line(path).lstrip("\ufeff")]), [])
        seen |= set(header)
        for kind in known.types_of_file(path.name.split(".")[0]) if column in header else []:
            for f in read_features(path, choose_columns(path, text_columns=(column,))):
                groups[(kind, known.id_of(kind, f.id, f.index) or f.id)] = f.text
    if not groups:
        where = str(folder) if folder else "--features (none given)"
        raise unknown("group column", column, sorted(seen), where)
    of_nodes = [[groups.get((k, i), "") for i in nodes.tables[k].ids] for k in nodes.types]
    return Groups(column, of_nodes)


def _tables(folder: str | None) -> list[Path]:
    """The feature tables of a folder, plain or gzipped."""
    if folder and not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder of feature tables")
    return sorted(Path(folder).glob("*.csv*")) if folder else []
