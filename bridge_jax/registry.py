"""Mapping from name to class that imports a module on first access."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class LazyRegistry(Mapping[str, T]):
    """Read-only mapping from name to class; a class is imported when it is looked up.

    Listing the names imports nothing, so that a command can offer them as choices without the
    packages that the classes need.

    Example:
      >>> BASELINES = LazyRegistry({"random": "bridge_jax.evaluation.baselines.random:Random"})
      >>> Random = BASELINES["random"]  # imports the module
    """

    def __init__(self, import_paths: Mapping[str, str]) -> None:
        """Stores the import paths.

        Args:
          import_paths: `module:class` by name, in the order of iteration.
        """
        self._import_paths = import_paths

    def __getitem__(self, name: str) -> T:
        """Imports and returns one class."""
        module, _, attribute = self._import_paths[name].partition(":")
        member: T = getattr(importlib.import_module(module), attribute)
        return member

    def __contains__(self, name: object) -> bool:
        """Returns whether the name is registered; imports nothing."""
        return name in self._import_paths

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in order."""
        return iter(self._import_paths)

    def __len__(self) -> int:
        """Returns the number of names."""
        return len(self._import_paths)
