"""Choice of a triple type by the names that are given of it."""

from collections.abc import Sequence

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError


def find_triple_type(
    triple_types: Sequence[TripleType], source: str, relation: str | None, target: str | None
) -> TripleType:
    """Finds the triple type with some names; omitted names must follow from the others.

    Args:
      triple_types: All triple types.
      source: Node type of the head.
      relation: Name of the relation; None for the only one that fits.
      target: Node type of the tail; None for the only one that fits.

    Raises:
      InputError: None or several triple types fit.
    """
    from_source = [t for t in triple_types if t.head == source]
    matches = [
        t for t in from_source if relation in (None, t.relation) and target in (None, t.tail)
    ]
    if len(matches) == 1:
        return matches[0]
    query = " → ".join((source, relation or "any relation", target or "any type"))
    if not matches:
        existing = "; ".join(map(str, from_source)) or "nothing"
        raise InputError(f"this graph has no facts {query}; from {source} it has: {existing}")
    choices = "; ".join(map(str, matches))
    raise InputError(f"{query} is ambiguous; give relation and target of one of: {choices}")
