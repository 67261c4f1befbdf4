"""A family by its names: listing them imports nothing, asking for a member imports it."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class LazyRegistry(Mapping[str, T]):
    """The table of a family: name to class."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Hold where the members are.

        Args:
          places: name to `module:class`, in the order of the family.
        """
        self._places = places

    def __getitem__(self, name: str) -> T:
        """Import one member."""
        module, _, member = self._places[name].partition(":")
        found: T = getattr(importlib.import_module(module), member)
        return found

    def __contains__(self, name: object) -> bool:
        """Whether the family has such a name; nothing is imported."""
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        """The names, in order."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)
