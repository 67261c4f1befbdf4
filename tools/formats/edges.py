"""Edges of a source graph, the common result of all formats, and the builder that collects them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from bridge_jax.data.findings import Findings, num_rows

from .delimited import Column, DelimitedFile, Finding, TableChunk

T = TypeVar("T")


class SourceNode(NamedTuple):
    """Node as a source names it.

    Attributes:
      type: Node type.
      id: Id, unique within the type.
      node_index: Numeric index of the source, such as PrimeKG's; may be empty.
      name: Display name; may be empty.
    """

    type: str
    id: str
    node_index: str
    name: str


class Unusable(str):
    """Reason why a node or a relation cannot be used, in place of its value."""


def _empty() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass
class Edges:
    """Edges of a source, as indices into its own vocabularies.

    Attributes:
      nodes: All nodes that the source names, in order of appearance.
      relations: Relation names, in order of appearance.
      head: `[edges]` index into `nodes`.
      relation: `[edges]` index into `relations`.
      tail: `[edges]` index into `nodes`.
      row: `[edges]` line number in the file, from 1.
      file: `[edges]` index into `files`; may be empty if there is at most one file.
      files: Names of the files that contain edges.
      rejects: Edge rows that cannot be used, in bounded memory; edges and the rows of the rejects
        together are all rows of the files.
      notices: Oddities that cost no edge row.
      synonyms: Synonyms by (type, id), each a list separated by `|`; for some nodes, or none.
    """

    nodes: list[SourceNode] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    head: np.ndarray = field(default_factory=_empty)
    relation: np.ndarray = field(default_factory=_empty)
    tail: np.ndarray = field(default_factory=_empty)
    row: np.ndarray = field(default_factory=_empty)
    file: np.ndarray = field(default_factory=_empty)
    files: list[str] = field(default_factory=list)
    rejects: list[Finding] = field(default_factory=Findings)
    notices: list[Finding] = field(default_factory=Findings)
    synonyms: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Number of edge rows in the source, usable or not."""
        return len(self.row) + num_rows(self.rejects)

    def finding(self, edge: int, reason: str, text: str = "", num_rows: int = 1) -> Finding:
        """Returns a finding about an edge.

        Args:
          edge: Index of the edge.
          reason: What is wrong with it.
          text: The part that is wrong; default: head, relation and tail.
          num_rows: Number of edge rows that are lost; default: 1.
        """
        head, tail = self.nodes[self.head[edge]], self.nodes[self.tail[edge]]
        text = text or ", ".join((label(head), self.relations[self.relation[edge]], label(tail)))
        file = self.files[self.file[edge] if len(self.file) else 0] if self.files else ""
        return Finding(file, int(self.row[edge]), reason, text, num_rows)


class EdgesBuilder:
    """Collects rows, chunk by chunk, into `Edges`."""

    def __init__(self) -> None:
        self.edges = Edges()
        self._code_of_id: dict[tuple[str, str], int] = {}
        self._code_of_index: dict[str, int] = {}
        self._code_of_node: dict[SourceNode, int] = {}
        self._code_of_relation: dict[str, int] = {}
        self._columns: list[tuple[np.ndarray, ...]] = []

    def read_chunks(self, file: DelimitedFile) -> Iterator[TableChunk]:
        """Reads a file of edges and records its rejects and notices.

        Yields:
          The chunks of the file; pass the columns of each to `add_edges`.

        Raises:
          InputError: The file is missing, empty or truncated, or lacks a column.
        """
        self.edges.files.append(file.path.name)
        for chunk in file.chunks():
            self.edges.rejects += chunk.rejects
            self.edges.notices += chunk.notices
            yield chunk

    def add_notice(self, file: str, row: int, reason: str, text: str) -> None:
        """Records an oddity that costs no edge row."""
        self.edges.notices.append(Finding(file, row, reason, text, 0))

    def add_node(self, node: SourceNode, file: str, row: int) -> int:
        """Adds a node, unless it is known, and records contradictions about it as notices.

        Args:
          node: The node as named in this row.
          file: File name.
          row: Line number.

        Returns:
          Index of the node in `edges.nodes`.
        """
        if (known := self._code_of_node.get(node)) is not None:
            return known
        code = self._code_of_id.setdefault((node.type, node.id), len(self.edges.nodes))
        if code == len(self.edges.nodes):
            self.edges.nodes.append(node)
        first = self.edges.nodes[code]
        owner = self._code_of_index.setdefault(node.node_index, code) if node.node_index else code
        for is_contradiction, reason in (
            (_differ(first.node_index, node.node_index), "one id with two indices"),
            (owner != code, "one index for two ids"),
            (_differ(first.name, node.name), "one id with two names"),
        ):
            if is_contradiction:
                other = self.edges.nodes[owner] if owner != code else first
                self.add_notice(file, row, reason, f"{tuple(node)} after {tuple(other)}")
        self._code_of_node[node] = code
        return code

    def add_edges(
        self,
        rows: np.ndarray,
        head: Column[SourceNode | Unusable],
        relation: Column[str],
        tail: Column[SourceNode | Unusable],
    ) -> None:
        """Adds rows of the file that `read_chunks` reads at present.

        Args:
          rows: `[n]` line numbers.
          head: Head nodes; a row with an `Unusable` value becomes a reject.
          relation: Relation names; a row with an empty or `Unusable` value becomes a reject.
          tail: Tail nodes, as `head`.
        """
        file = self.edges.files[-1]

        def node_code(node: SourceNode | Unusable, row: int) -> int:
            return -1 if isinstance(node, Unusable) else self.add_node(node, file, row)

        def relation_code(name: str, row: int) -> int:
            return -1 if isinstance(name, Unusable) or not name else self._add_relation(name)

        codes = (
            _recode(rows, head, node_code),
            _recode(rows, relation, relation_code),
            _recode(rows, tail, node_code),
        )
        bad = np.zeros(len(rows), bool)
        columns: tuple[Column, ...] = (head, relation, tail)
        for column, code in zip(columns, codes, strict=True):
            for i in np.flatnonzero((code < 0) & ~bad).tolist():
                reason = str(column.values[column.codes[i]]) or "no relation"
                text = ", ".join(label(c.values[c.codes[i]]) for c in columns)
                self.edges.rejects.append(Finding(file, int(rows[i]), reason, text))
            bad |= code < 0
        file_index = np.full(len(rows), len(self.edges.files) - 1)
        self._columns.append(tuple(c[~bad] for c in (*codes, file_index, rows)))

    def build(self) -> Edges:
        """Returns the edges of all rows that were added."""
        columns = zip(*self._columns, strict=True) if self._columns else [[_empty()]] * 5
        for name, chunks in zip(("head", "relation", "tail", "file", "row"), columns, strict=True):
            setattr(self.edges, name, np.concatenate(chunks).astype(np.int64))
        return self.edges

    def _add_relation(self, name: str) -> int:
        code = self._code_of_relation.setdefault(name, len(self._code_of_relation))
        if code == len(self.edges.relations):
            self.edges.relations.append(name)
        return code


def _recode(rows: np.ndarray, column: Column[T], code_of: Callable[[T, int], int]) -> np.ndarray:
    """Replaces the codes of a column; each used value is looked up once, in order of appearance."""
    used, first = np.unique(column.codes, return_index=True)
    new_codes = np.full(len(column.values), -1, np.int64)
    for i in np.argsort(first).tolist():
        new_codes[used[i]] = code_of(column.values[used[i]], int(rows[first[i]]))
    return new_codes[column.codes] if len(new_codes) else _empty()


def _differ(a: str, b: str) -> bool:
    return bool(a and b and a != b)


def label(value: SourceNode | str) -> str:
    """Returns a node as `type::id`, and any other value as it is."""
    return f"{value.type}::{value.id}" if isinstance(value, SourceNode) else str(value)
