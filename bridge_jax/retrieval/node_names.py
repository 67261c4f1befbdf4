"""Nodes as people know them: ids and names of one type, looked up with suggestions."""

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bridge_jax.errors import InputError

_SHOWN = 5


@dataclass(frozen=True)
class NodeIndex:
    """The nodes of a type.

    Attributes:
      node_type: what they are.
      ids: one a row of the type's table.
      names: one an id; the id itself where the dataset has no name.
    """

    node_type: str
    ids: Sequence[str]
    names: Sequence[str]

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {node: row for row, node in enumerate(self.ids)}

    @cached_property
    def _rows_of_name(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row, name in enumerate(self.names):
            rows[_plain(name)].append(row)
        return dict(rows)

    def with_id(self, node: str) -> int:
        """The row of an id.

        Raises:
          InputError: there is none; the message has the nearest.
        """
        if node in self._row_of_id:
            return self._row_of_id[node]
        named = self._rows_of_name.get(_plain(node))
        if named:
            hint = f"it is the name of {self._listed(named)}; ask for it by name"
        else:
            near = difflib.get_close_matches(node, self.ids, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"ids look like {self.ids[0]!r}"
        raise InputError(f"no {self.node_type} has the id {node!r}; {hint}")

    def with_name(self, name: str) -> int:
        """The row of a name, whatever its case.

        Raises:
          InputError: there is none, or several; the message has the nearest, or all of them.
        """
        rows = self._rows_of_name.get(_plain(name), [])
        exact = [row for row in rows if self.names[row] == name]
        if len(rows) == 1 or len(exact) == 1:
            return (exact or rows)[0]
        if rows:
            raise InputError(
                f"{len(rows)} nodes of type {self.node_type} are named {name!r}: "
                f"{self._listed(rows)}; ask for one by id"
            )
        near = self.search(name, _SHOWN)
        hint = f"; did you mean {self._listed(near)}?" if near else ""
        raise InputError(f"no {self.node_type} is named {name!r}{hint}")

    def with_id_or_name(self, text: str) -> int:
        """The row of an id, or else of a name.

        Raises:
          InputError: see `with_name`.
        """
        row = self._row_of_id.get(text)
        return self.with_name(text) if row is None else row

    def search(self, text: str, limit: int) -> list[int]:
        """Rows whose id or name fits a text, best first.

        An id or name that equals the text comes before those that begin with it, then those that
        hold it, shorter ones first; without any, names that are spelled alike.

        Args:
          text: what to look for, whatever its case.
          limit: at most so many.
        """
        wanted = _plain(text)
        if not wanted:
            return list(range(min(limit, len(self.ids))))
        found = []
        for row, (node, name) in enumerate(zip(self.ids, self._folded, strict=True)):
            texts = [t for t in (name, node.casefold()) if wanted in t]
            if texts:
                found.append(
                    (min((t != wanted, not t.startswith(wanted), len(t)) for t in texts), row)
                )
        if not found:
            near = difflib.get_close_matches(wanted, self._rows_of_name, n=limit, cutoff=0.6)
            return [row for name in near for row in self._rows_of_name[name]][:limit]
        return [row for _, row in sorted(found)[:limit]]

    @cached_property
    def _folded(self) -> list[str]:
        return [_plain(name) for name in self.names]

    def _listed(self, rows: Sequence[int]) -> str:
        shown = ", ".join(f"{self.names[row]!r} ({self.ids[row]})" for row in rows[:_SHOWN])
        return shown + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
