"""Node lists: files that map the keys in an edge file to typed nodes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge_jax.data.synonyms import SEPARATOR
from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile
from .edges import EdgesBuilder, SourceNode, Unusable


class NodeList:
    """Nodes by the key under which edges refer to them; all faults of a list are notices."""

    def __init__(self, builder: EdgesBuilder, folder: Path, names: Sequence[str]) -> None:
        """Finds the files of a list.

        Args:
          builder: Receives the nodes and the notices.
          folder: Folder of the files.
          names: Possible file names; all that exist are read.

        Raises:
          InputError: The folder has none of the files.
        """
        self.builder = builder
        self.paths = [p for n in names if (p := folder / n).is_file()]
        self._file = ""
        self._nodes: dict[str, SourceNode | Unusable] = {}
        if not self.paths:
            raise InputError(f"{folder}: no list of nodes in this folder; expected {names[0]}")

    def rows(
        self,
        columns: Sequence[str],
        ignored: Sequence[str] = (),
        delimiter: str = ",",
        quote: str = '"',
        header: bool = True,
    ) -> Iterator[tuple[int, list[str]]]:
        """Reads the files one after the other; add each node before the next row is read.

        Args:
          columns: Names of the columns to read.
          ignored: See `DelimitedFile`.
          delimiter: See `DelimitedFile`.
          quote: See `DelimitedFile`.
          header: Whether the files have a header; otherwise `columns` are all their columns.

        Yields:
          Pairs of line number and the values of `columns`.

        Raises:
          InputError: A file is empty or truncated, or lacks a column.
        """
        for path in self.paths:
            self._file = path.name
            names = () if header else columns
            for chunk in DelimitedFile(path, columns, ignored, delimiter, quote, names).chunks():
                for finding in (*chunk.notices, *chunk.rejects):
                    self.builder.add_notice(finding.file, finding.row, finding.reason, finding.text)
                values = [chunk.columns[name] for name in columns]
                for i, row in enumerate(chunk.rows.tolist()):
                    yield row, [c.values[c.codes[i]] for c in values]

    def add(self, key: str, node: SourceNode, row: int, synonyms: Sequence[str] = ()) -> None:
        """Adds the node of a row, and its synonyms, each a list separated by `|`.

        A node without a key, an id or a type, and a key that occurs a second time, give a notice.
        """
        known = self._nodes.get(key)
        if not (key and node.id and node.type):
            reason = "a node without a type" if key and node.id else "a node without an id"
            self.builder.add_notice(self._file, row, reason, str(tuple(node)))
            if key:
                self._nodes.setdefault(key, Unusable(reason))
        elif known is None:
            self._nodes[key] = node
            self.builder.add_node(node, self._file, row)
            if any(synonyms):
                self.builder.edges.synonyms[node.type, node.id] = SEPARATOR.join(synonyms)
        else:
            first = tuple(known) if isinstance(known, SourceNode) else known
            text = f"{tuple(node)} after {first}"
            self.builder.add_notice(self._file, row, "a node listed twice", text)

    def look_up(self, keys: Column[str], name: str) -> Column[SourceNode | Unusable]:
        """Maps a column of keys to nodes; a key that is not listed is unusable.

        Args:
          keys: The keys.
          name: Name of the column, for the reason of a reject.
        """
        files = " or ".join(p.name for p in self.paths)
        missing = Unusable(f"{name} is in no row of {files}")
        return Column([self._nodes.get(key, missing) for key in keys.values], keys.codes)
