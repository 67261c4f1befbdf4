"""The OBO 1.2 format of ontologies, as far as terms, names, definitions and is_a go."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from bridge_jax.errors import InputError

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Term(NamedTuple):
    """One term; `namespace` may be empty."""

    id: str
    name: str
    namespace: str
    definition: str
    parents: tuple[str, ...]


class Ontology:
    """The terms of an ontology that are not obsolete.

    Attributes:
      terms: by id.
    """

    def __init__(self, text: str, where: str) -> None:
        """Parse an ontology.

        Args:
          text: the whole file.
          where: its name, for the message.

        Raises:
          InputError: there is no term in it.
        """
        self.terms: dict[str, Term] = {}
        self._alternative: dict[str, str] = {}
        for stanza in text.split("\n\n["):
            if not stanza.startswith("Term]\n"):
                continue
            tags: dict[str, list[str]] = {}
            for line in stanza.splitlines()[1:]:
                tag, _, value = line.partition(": ")
                tags.setdefault(tag, []).append(value)
            if "id" not in tags or tags.get("is_obsolete") == ["true"]:
                continue
            term = _term(tags)
            self.terms[term.id] = term
            self._alternative |= dict.fromkeys(tags.get("alt_id", ()), term.id)
        if not self.terms:
            raise InputError(f"{where}: no [Term] in it; is it an OBO file?")

    def resolve(self, name: str) -> str | None:
        """The present id of a term, given by that or an alternative id; None where it has none."""
        present = self._alternative.get(name, name)
        return present if present in self.terms else None


def _term(tags: Mapping[str, list[str]]) -> Term:
    quoted = _QUOTED.match(tags.get("def", [""])[0])
    definition = re.sub(r"\\(.)", r"\1", quoted.group(1)) if quoted else ""
    parents = (re.split(r" [!{]", v)[0] for v in tags.get("is_a", ()))
    name, namespace = (tags.get(t, [""])[0] for t in ("name", "namespace"))
    return Term(tags["id"][0], name, namespace, definition, tuple(parents))
