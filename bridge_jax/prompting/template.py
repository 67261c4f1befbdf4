"""From a node and its neighbours to a prompt: sections of text, put into a template.

Source of the idea: the retrieval-augmented question answering and generation of Wang et al.,
"BioBridge", ICLR 2024; the templates are this project's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError, unknown

TASKS = ("qa", "generate")
FIELDS = ("type", "name", "id", "context", "question")
QUESTIONS = {
    "qa": "Which molecular mechanisms and conditions is $name linked to, and how?",
    "generate": "Which molecule could act on the proteins behind $name?",
}


@dataclass(frozen=True)
class Node:
    """A node as a person reads it; `known` says whether the graph holds the relation."""

    id: str
    name: str
    known: bool = False


@dataclass(frozen=True)
class Section:
    """What one triple type gives: the best neighbours first.

    Attributes:
      triple_type: the triple type.
      via: the node type of the neighbours that were asked, in the second hop; else empty.
      nodes: the neighbours.
      rows: where they stand in their type's table.
    """

    triple_type: TripleType
    via: str
    nodes: tuple[Node, ...]
    rows: tuple[int, ...]

    def text(self, notes: Mapping[str, str]) -> str:
        """A heading and one line a neighbour, with a note where there is one."""
        of = f", of the {self.via} listed here" if self.via else ""
        lines = [f"{self.triple_type.tail} ({self.triple_type.relation}{of}):"]
        for node in self.nodes:
            note = f": {notes[node.id]}" if node.id in notes else ""
            lines.append(f"- {node.name} ({node.id}){note}{' [known]' if node.known else ''}")
        return "\n".join(lines)


def read_template(task: str, path: str | None) -> Template:
    """A template: the package's, or a user's.

    Raises:
      InputError: the file is missing or empty, or has a field that is not of `FIELDS`.
    """
    if path is None:
        ours = resources.files("bridge_jax.prompting") / "templates"
        text = (ours / f"{task}.txt").read_text("utf-8")
    elif not Path(path).is_file():
        raise InputError(f"{path}: no such template")
    else:
        text = Path(path).read_text("utf-8")
    template = Template(text)
    if not text.strip() or not template.is_valid():
        raise InputError(
            f"{path}: not a template; it needs text with fields such as $context, and $$ for $"
        )
    for name in template.get_identifiers():
        if name not in FIELDS:
            raise unknown("field", f"${name}", [f"${f}" for f in FIELDS], "a template")
    return template


def fill(
    template: Template,
    node_type: str,
    node: Node,
    sections: Sequence[Section],
    question: str,
    notes: Mapping[str, str],
) -> str:
    """Put a node and its neighbours into a template.

    Args:
      template: of `read_template`.
      node_type: of the node.
      node: whom it is about.
      sections: its neighbours.
      question: may use $name.
      notes: by id, to stand beside a neighbour, e.g. a SMILES.
    """
    return template.substitute(
        type=node_type,
        name=node.name,
        id=node.id,
        context="\n\n".join(s.text(notes) for s in sections),
        question=Template(question).safe_substitute(name=node.name),
    ).strip()
