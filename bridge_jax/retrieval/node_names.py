"""Lookup of nodes by id, name or synonym, with suggestions where nothing fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.manifest import Manifest
from bridge_jax.data.synonyms import read_synonyms
from bridge_jax.errors import InputError
from bridge_jax.retrieval.node_search import Match, NodeSearch

_MAX_SUGGESTIONS = 5


def read_node_index(
    root: str | Path, manifest: Manifest, node_type: str, ids: Sequence[str]
) -> "NodeIndex":
    """Reads the names and synonyms of a node type.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      node_type: Node type.
      ids: Id of each row of the type's table.

    Raises:
      InputError: A file was changed after the dataset was written.
    """
    name_of = read_names(root, manifest, node_type)
    names = [name_of.get(node) or node for node in ids]
    synonyms_of = read_synonyms(root, manifest, node_type)
    synonyms = [synonyms_of.get(node, ()) for node in ids] if synonyms_of else ()
    return NodeIndex(node_type, ids, names, synonyms)


@dataclass(frozen=True)
class NodeIndex:
    """Ids and names of the nodes of one type.

    Attributes:
      node_type: Type of the nodes.
      ids: Id of each row of the type's table.
      names: Name of each row; the id where the dataset has no name.
      synonyms: Synonyms of each row, e.g. `p53` of TP53; empty if the dataset has none.
    """

    node_type: str
    ids: Sequence[str]
    names: Sequence[str]
    synonyms: Sequence[Sequence[str]] = ()

    @cached_property
    def _id_to_row(self) -> dict[str, int]:
        return {node: row for row, node in enumerate(self.ids)}

    @cached_property
    def _search(self) -> NodeSearch:
        return NodeSearch([self])

    def row_of_id(self, node: str) -> int:
        """Returns the row of an id; its case is ignored if no other id differs in nothing else.

        Raises:
          InputError: There is no such id; the message suggests the nearest one.
        """
        if node in self._id_to_row:
            return self._id_to_row[node]
        matches = self.search(node, _MAX_SUGGESTIONS)
        with_id = [m.row for m in matches if m.tier == 0]
        if len(with_id) == 1:
            return with_id[0]
        rows = [m.row for m in matches if m.is_exact]
        if rows:
            hint = f"it is the name of {self._format(rows)}; ask for it by name"
        else:
            ids = NodeSearch([NodeIndex(self.node_type, self.ids, self.ids)])
            similar = ids.search(node, 1)
            hint = (
                f"did you mean {similar[0].id!r}?" if similar else f"ids look like {self.ids[0]!r}"
            )
        raise InputError(f"no {self.node_type} has the id {node!r}; {hint}")

    def row_of_name(self, name: str) -> int:
        """Returns the row of a name or synonym.

        Case and punctuation are ignored, unless several names differ in nothing else.

        Raises:
          InputError: No node or several nodes have this name; the message suggests similar names
            or lists the nodes.
        """
        return self._row_of(self.search(name, 50), name, f"is named {name!r}", f"named {name!r}")

    def row_of_id_or_name(self, text: str) -> int:
        """Returns the row of an id or, if there is no such id, of a name or synonym.

        Raises:
          InputError: See `row_of_name`.
        """
        row = self._id_to_row.get(text)
        return self.row_of_name(text) if row is None else row

    def search(self, text: str, limit: int) -> list[Match]:
        """Returns the nodes that a text may mean, best first; see `node_search`.

        Args:
          text: Text to look for.
          limit: Maximum number of matches.
        """
        return self._search.search(text, limit)

    def _row_of(self, matches: Sequence[Match], name: str, is_named: str, named: str) -> int:
        """Returns the only match of the best tier that is exact."""
        best = [m for m in matches if m.is_exact and m.tier == matches[0].tier]
        exact = [m for m in best if m.text == name]
        if len(best) == 1 or len(exact) == 1:
            return (exact or best)[0].row
        if best:
            raise InputError(
                f"{len(best)} nodes of type {self.node_type} are {named}: "
                f"{self._format([m.row for m in best])}; ask for one by id"
            )
        similar = [m.row for m in matches[:_MAX_SUGGESTIONS]]
        hint = f"; did you mean {self._format(similar)}?" if similar else ""
        raise InputError(f"no {self.node_type} {is_named}{hint}")

    def _format(self, rows: Sequence[int]) -> str:
        shown = ", ".join(
            f"{self.names[row]!r} ({self.ids[row]})" for row in rows[:_MAX_SUGGESTIONS]
        )
        more = len(rows) - _MAX_SUGGESTIONS
        return f"{shown} and {more} more" if more > 0 else shown
