"""The one exception that a command line shows as a plain message."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy."""


def unknown(noun: str, value: str, known: Iterable[str], where: str) -> InputError:
    """Build the error for a name that is not in a vocabulary, with the nearest name.

    Args:
      noun: what the name stands for, e.g. `relation`.
      value: the name that was given.
      known: the names that would have been accepted.
      where: whose vocabulary it is, e.g. `this graph`.

    Returns:
      An `InputError`; the caller raises it.
    """
    names = list(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(f"{noun} {value!r} is not in {where}{guess}; it has: {', '.join(names)}")
