"""Lookup of nodes by id or name, with suggestions where nothing fits."""

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bridge_jax.errors import InputError

_MAX_SUGGESTIONS = 5


@dataclass(frozen=True)
class NodeIndex:
    """Ids and names of the nodes of one type.

    Attributes:
      node_type: Type of the nodes.
      ids: Id of each row of the type's table.
      names: Name of each row; the id where the dataset has no name.
    """

    node_type: str
    ids: Sequence[str]
    names: Sequence[str]

    @cached_property
    def _id_to_row(self) -> dict[str, int]:
        return {node: row for row, node in enumerate(self.ids)}

    @cached_property
    def _normalised_names(self) -> list[str]:
        return [_normalise(name) for name in self.names]

    @cached_property
    def _name_to_rows(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row, name in enumerate(self._normalised_names):
            rows[name].append(row)
        return dict(rows)

    def row_of_id(self, node: str) -> int:
        """Returns the row of an id.

        Raises:
          InputError: There is no such id; the message suggests the nearest one.
        """
        if node in self._id_to_row:
            return self._id_to_row[node]
        rows = self._name_to_rows.get(_normalise(node))
        if rows:
            hint = f"it is the name of {self._format(rows)}; ask for it by name"
        else:
            similar = difflib.get_close_matches(node, self.ids, n=1, cutoff=0.5)
            hint = f"did you mean {similar[0]!r}?" if similar else f"ids look like {self.ids[0]!r}"
        raise InputError(f"no {self.node_type} has the id {node!r}; {hint}")

    def row_of_name(self, name: str) -> int:
        """Returns the row of a name.

        Case is ignored, unless several names differ in nothing else.

        Raises:
          InputError: No node or several nodes have this name; the message suggests similar names
            or lists the nodes.
        """
        rows = self._name_to_rows.get(_normalise(name), [])
        exact = [row for row in rows if self.names[row] == name]
        if len(rows) == 1 or len(exact) == 1:
            return (exact or rows)[0]
        if rows:
            raise InputError(
                f"{len(rows)} nodes of type {self.node_type} are named {name!r}: "
                f"{self._format(rows)}; ask for one by id"
            )
        similar = self.search(name, _MAX_SUGGESTIONS)
        hint = f"; did you mean {self._format(similar)}?" if similar else ""
        raise InputError(f"no {self.node_type} is named {name!r}{hint}")

    def row_of_id_or_name(self, text: str) -> int:
        """Returns the row of an id or, if there is no such id, of a name.

        Raises:
          InputError: See `row_of_name`.
        """
        row = self._id_to_row.get(text)
        return self.row_of_name(text) if row is None else row

    def search(self, text: str, limit: int) -> list[int]:
        """Returns rows whose id or name contains a text, best first; case does not matter.

        Exact matches come first, then ids and names that start with the text, then those that
        contain it; shorter ones before longer ones. Without any match, names with a similar
        spelling are returned.

        Args:
          text: Text to look for; an empty text matches the first rows.
          limit: Largest number of rows to return.
        """
        text = _normalise(text)
        if not text:
            return list(range(min(limit, len(self.ids))))
        matches = []
        for row, (node, name) in enumerate(zip(self.ids, self._normalised_names, strict=True)):
            containing = [t for t in (name, node.casefold()) if text in t]
            if containing:
                order = min((t != text, not t.startswith(text), len(t)) for t in containing)
                matches.append((order, row))
        if not matches:
            similar = difflib.get_close_matches(text, self._name_to_rows, n=limit, cutoff=0.6)
            return [row for name in similar for row in self._name_to_rows[name]][:limit]
        return [row for _, row in sorted(matches)[:limit]]

    def _format(self, rows: Sequence[int]) -> str:
        shown = ", ".join(
            f"{self.names[row]!r} ({self.ids[row]})" for row in rows[:_MAX_SUGGESTIONS]
        )
        more = len(rows) - _MAX_SUGGESTIONS
        return f"{shown} and {more} more" if more > 0 else shown


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split())
