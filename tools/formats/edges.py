"""What every graph format is read into, and the builder that all of them feed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
    """A node as a source names it; `index` and `name` may be empty."""

    type: str
    id: str
    index: str
    name: str


class Finding(NamedTuple):
    """Something odd in a source.

    Attributes:
      file: where.
      row: where in the file; its first line is row 1.
      reason: what is odd.
      text: the row, or what of it is odd.
      rows: how many edge rows are lost for it; 0 for an oddity that costs none.
    """

    file: str
    row: int
    reason: str
    text: str
    rows: int = 1


class Unusable(str):
    """Stands in place of a node or a relation that cannot be used, and says why."""


class Column(NamedTuple):
    """One column of a block: a value for each row, as codes into (nearly) distinct values."""

    values: Sequence[Node | str]
    codes: np.ndarray


def no_ints() -> np.ndarray:
    """An empty int64 array."""
    return np.zeros(0, np.int64)


@dataclass
class Edges:
    """A source's edges as codes into its own vocabularies.

    Attributes:
      nodes: every node that the source names, in order of appearance.
      relations: relation names, in order of appearance.
      head: `[edges]` index into `nodes`.
      relation: `[edges]` index into `relations`.
      tail: `[edges]` index into `nodes`.
      row: `[edges]` row in its file, from 1.
      file: `[edges]` index into `files`; empty where there is only one file, or none.
      files: names of the files that hold edges.
      rejects: edge rows that cannot be used; with the edges they make up all rows of the files.
      notices: oddities that cost no edge row.
    """

    nodes: list[Node] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    head: np.ndarray = field(default_factory=no_ints)
    relation: np.ndarray = field(default_factory=no_ints)
    tail: np.ndarray = field(default_factory=no_ints)
    row: np.ndarray = field(default_factory=no_ints)
    file: np.ndarray = field(default_factory=no_ints)
    files: list[str] = field(default_factory=list)
    rejects: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Edge rows in, used or not."""
        return len(self.row) + len(self.rejects)

    def finding(self, edge: int, reason: str, text: str = "", rows: int = 1) -> Finding:
        """What a later step finds wrong with an edge; its text is the edge unless given."""
        head, tail = self.nodes[self.head[edge]], self.nodes[self.tail[edge]]
        text = text or ", ".join((words(head), self.relations[self.relation[edge]], words(tail)))
        file = self.files[self.file[edge] if len(self.file) else 0] if self.files else ""
        return Finding(file, int(self.row[edge]), reason, text, rows)


class Block(NamedTuple):
    """Some rows of a file: their row numbers, columns by name, and what was odd among them."""

    rows: np.ndarray
    columns: dict[str, Column]
    rejects: list[Finding]
    notices: list[Finding]


def combine(columns: Sequence[Column]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Join columns of text to one.

    Returns:
      The distinct rows, and the code of each row.
    """
    joined = np.zeros(len(columns[0].codes), np.int64)
    first = joined
    for column in columns:  # renumbered each time, so that the products stay small
        keys = joined * max(len(column.values), 1) + column.codes
        _, first, joined = np.unique(keys, return_index=True, return_inverse=True)
    rows = zip(*(c.codes[first].tolist() for c in columns), strict=True)
    values = [tuple(str(c.values[i]) for c, i in zip(columns, r, strict=True)) for r in rows]
    return values, joined


class Builder:
    """Collects blocks of rows into `Edges`."""

    def __init__(self) -> None:
        self.edges = Edges()
        self._codes: dict[tuple[str, str], int] = {}
        self._of_index: dict[str, int] = {}
        self._as_written: dict[Node, int] = {}
        self._relations: dict[str, int] = {}
        self._parts: list[tuple[np.ndarray, ...]] = []

    def open(self, file: str) -> None:
        """Say which file the next blocks come from."""
        self.edges.files.append(file)

    def note(self, block: Block) -> None:
        """Take over what a reader found in a block of edges."""
        self.edges.rejects += block.rejects
        self.edges.notices += block.notices

    def notice(self, file: str, row: int, reason: str, text: str) -> None:
        """Note an oddity that costs no edge row."""
        self.edges.notices.append(Finding(file, row, reason, text, 0))

    def declare(self, node: Node, file: str, row: int) -> int:
        """Add a node, or find it, and note where a source contradicts itself about it.

        Args:
          node: the node as it is named here.
          file: where.
          row: where.

        Returns:
          Its place in `edges.nodes`.
        """
        if (known := self._as_written.get(node)) is not None:
            return known
        code = self._codes.setdefault((node.type, node.id), len(self.edges.nodes))
        if code == len(self.edges.nodes):
            self.edges.nodes.append(node)
        first = self.edges.nodes[code]
        owner = self._of_index.setdefault(node.index, code) if node.index else code
        for wrong, reason in (
            (_differ(first.index, node.index), "one id with two indices"),
            (owner != code, "one index for two ids"),
            (_differ(first.name, node.name), "one id with two names"),
        ):
            if wrong:
                other = self.edges.nodes[owner] if owner != code else first
                text = f"{tuple(node)} after {tuple(other)}"
                self.notice(file, row, reason, text)
        self._as_written[node] = code
        return code

    def add(self, rows: np.ndarray, head: Column, relation: Column, tail: Column) -> None:
        """Add a block of rows of the file last opened.

        Args:
          rows: `[n]` row numbers.
          head: a `Node` or `Unusable` for each row.
          relation: a name or `Unusable` for each row; an empty name is unusable.
          tail: likewise a node.
        """
        file = self.edges.files[-1]
        codes = [
            self._place(rows, column, place)
            for column, place in (
                (head, self._node),
                (relation, self._relation),
                (tail, self._node),
            )
        ]
        bad = np.zeros(len(rows), bool)
        for column, code in zip((head, relation, tail), codes, strict=True):
            for i in np.flatnonzero((code < 0) & ~bad).tolist():
                reason = str(column.values[column.codes[i]]) or "no relation"
                text = ", ".join(words(c.values[c.codes[i]]) for c in (head, relation, tail))
                self.edges.rejects.append(Finding(file, int(rows[i]), reason, text))
            bad |= code < 0
        place = np.full(len(rows), len(self.edges.files) - 1)
        self._parts.append(tuple(c[~bad] for c in (*codes, place, rows)))

    def finish(self) -> Edges:
        """All blocks together."""
        columns = zip(*self._parts, strict=True) if self._parts else ([no_ints()] for _ in range(5))
        for name, parts in zip(("head", "relation", "tail", "file", "row"), columns, strict=True):
            setattr(self.edges, name, np.concatenate(parts).astype(np.int64))
        return self.edges

    def _place(
        self, rows: np.ndarray, column: Column, place: Callable[[Node | str, int], int]
    ) -> np.ndarray:
        used, first = np.unique(column.codes, return_index=True)
        table = np.full(len(column.values), -1, np.int64)
        for i in np.argsort(first).tolist():
            value = column.values[used[i]]
            if not isinstance(value, Unusable):
                table[used[i]] = place(value, int(rows[first[i]]))
        return table[column.codes] if len(table) else no_ints()

    def _node(self, node: Node | str, row: int) -> int:
        assert isinstance(node, Node)
        return self.declare(node, self.edges.files[-1], row)

    def _relation(self, name: Node | str, row: int) -> int:
        del row
        if not name:
            return -1
        code = self._relations.setdefault(str(name), len(self._relations))
        if code == len(self.edges.relations):
            self.edges.relations.append(str(name))
        return code


def _differ(a: str, b: str) -> bool:
    return bool(a and b and a != b)


def words(value: Node | str) -> str:
    """A node as `type::id`; a relation as it is."""
    return f"{value.type}::{value.id}" if isinstance(value, Node) else str(value)
