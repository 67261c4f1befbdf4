"""Node lists: the files to which a format's edges refer by a key."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Table
from .edges import Builder, Column, Node, Unusable


class NodeList:
    """The nodes that edges may name, by key; what is wrong with a list is a notice.

    Args:
      build: receives the nodes and the notices.
      folder: where the lists are.
      names: file names; those that are there are read.
    """

    def __init__(self, build: Builder, folder: Path, names: Sequence[str]) -> None:
        self.build = build
        self.paths = [p for n in names if (p := folder / n).is_file()]
        self._file = ""
        self._nodes: dict[str, Node | Unusable] = {}
        if not self.paths:
            raise InputError(f"{folder}: no list of nodes in this folder; expected {names[0]}")

    def tables(
        self,
        columns: Sequence[str],
        ignored: Sequence[str] = (),
        delimiter: str = ",",
        quote: str = '"',
        header: bool = True,
    ) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Read the lists: for each file, row numbers with the values of `columns`."""
        for path in self.paths:
            self._file = path.name
            table = Table(path, columns, ignored, delimiter, quote, () if header else columns)
            yield self._rows(table)

    def _rows(self, table: Table) -> Iterator[tuple[int, list[str]]]:
        for block in table.blocks():
            for found in (*block.notices, *block.rejects):
                self.build.notice(found.file, found.row, found.reason, found.text)
            columns = [block.columns[name] for name in table.columns]
            for i, row in enumerate(block.rows.tolist()):
                yield row, [str(c.values[c.codes[i]]) for c in columns]

    def add(self, key: str, node: Node, row: int) -> None:
        """Add a node; without a key, an id or a type, or under a key that is taken, it is noted."""
        found, usable = self._nodes.get(key), bool(node.id and node.type)
        if not key or not usable:
            reason = "a node without a type" if key and node.id else "a node without an id"
            self.build.notice(self._file, row, reason, str(tuple(node)))
            if key:
                self._nodes.setdefault(key, Unusable(reason))
        elif found is None:
            self._nodes[key] = node
            self.build.declare(node, self._file, row)
        else:
            text = f"{tuple(node)} after {tuple(found) if isinstance(found, Node) else found}"
            self.build.notice(self._file, row, "a node listed twice", text)

    def look_up(self, column: Column, name: str) -> Column:
        """Turn a column of keys into a column of nodes; a key of no node is unusable."""
        listed = " or ".join(p.name for p in self.paths)
        unknown = Unusable(f"{name} is in no row of {listed}")
        return Column([self._nodes.get(str(key), unknown) for key in column.values], column.codes)
