"""Reader of ontologies in the OBO 1.2 format: terms with names, definition and is_a parents."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from bridge_jax.errors import InputError

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Term(NamedTuple):
    """One term of an ontology.

    Attributes:
      id: Id of the term, e.g. `GO:0000001`.
      name: Name of the term.
      namespace: Namespace of the term; empty if the ontology has none.
      definition: Definition as plain text; may be empty.
      parents: Ids of the terms that this term is_a.
      synonyms: Other names that mean exactly the same.
    """

    id: str
    name: str
    namespace: str
    definition: str
    parents: tuple[str, ...]
    synonyms: tuple[str, ...] = ()


class Ontology:
    """Ontology without its obsolete terms.

    Attributes:
      terms: Terms by id.
    """

    def __init__(self, text: str, file: str) -> None:
        """Parses an ontology.

        Args:
          text: Content of the file.
          file: Name of the file, for the error message.

        Raises:
          InputError: The text has no term.
        """
        self.terms: dict[str, Term] = {}
        self._current_id: dict[str, str] = {}
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
            self._current_id |= dict.fromkeys(tags.get("alt_id", ()), term.id)
        if not self.terms:
            raise InputError(f"{file}: no [Term] in it; is it an OBO file?")

    def resolve(self, term: str) -> str | None:
        """Returns the current id of a term.

        Args:
          term: Current or alternative id.

        Returns:
          The current id; None if the term is unknown or obsolete.
        """
        current = self._current_id.get(term, term)
        return current if current in self.terms else None


def _term(tags: Mapping[str, list[str]]) -> Term:
    definition, _ = _unquote(tags.get("def", [""])[0])
    others = map(_unquote, tags.get("synonym", ()))
    synonyms = (text for text, scope in others if scope.startswith("EXACT"))
    parents = (re.split(r" [!{]", v)[0] for v in tags.get("is_a", ()))
    name, namespace = (tags.get(t, [""])[0] for t in ("name", "namespace"))
    return Term(tags["id"][0], name, namespace, definition, tuple(parents), tuple(synonyms))


def _unquote(value: str) -> tuple[str, str]:
    """Splits a value into the text between its quotes, which may be missing, and what follows."""
    quoted = _QUOTED.match(value)
    if not quoted:
        return "", value
    return re.sub(r"\\(.)", r"\1", quoted.group(1)), value[quoted.end() :].strip()
