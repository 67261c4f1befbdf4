"""The exception for unusable input; commands print its message without a traceback."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input from the user cannot be used; the message names the value and the remedy."""


def unknown(noun: str, value: str, known: Iterable[str], where: str) -> InputError:
    """Builds the error for an unknown name and suggests the most similar known one.

    Args:
      noun: What the name stands for, e.g. `relation`.
      value: Name that was given.
      known: All valid names.
      where: What the valid names belong to, e.g. `this graph`.

    Returns:
      An `InputError` for the caller to raise.

    Example:
      >>> raise unknown("relation", "targets", ["ppi", "target"], "this graph")
      InputError: relation 'targets' is not in this graph (did you mean 'target'?); it has: …
    """
    names = list(known)
    similar = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    suggestion = f" (did you mean {similar[0]!r}?)" if similar else ""
    return InputError(f"{noun} {value!r} is not in {where}{suggestion}; it has: {', '.join(names)}")
