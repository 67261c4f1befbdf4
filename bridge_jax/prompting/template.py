"""Prompt templates, and the text that a node and its context put into them.

The prompts follow the retrieval-augmented question answering and generation of BioBridge. The
wording of the templates is this project's own.

References:
  Wang et al., "BioBridge: Bridging Biomedical Foundation Models via Knowledge Graphs", ICLR 2024.
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
DEFAULT_QUESTIONS = {
    "qa": "Which molecular mechanisms and conditions is $name linked to, and how?",
    "generate": "Which molecule could act on the proteins behind $name?",
}


@dataclass(frozen=True)
class ContextNode:
    """Node as a prompt shows it.

    Attributes:
      id: Id of the node.
      name: Name of the node; its id if it has no name.
      known: Whether the graph contains the relation that leads to the node.
    """

    id: str
    name: str
    known: bool = False


@dataclass(frozen=True)
class Section:
    """Best neighbours along one triple type.

    Attributes:
      triple_type: Triple type that leads to the neighbours.
      via: Node type of the first hop's neighbours; empty in the first hop.
      nodes: Neighbours, best first.
      rows: Rows of the neighbours in their type's table.
    """

    triple_type: TripleType
    via: str
    nodes: tuple[ContextNode, ...]
    rows: tuple[int, ...]

    def as_text(self, notes: Mapping[str, str]) -> str:
        """Returns a heading and one line per neighbour.

        Args:
          notes: Text to show after a neighbour, by id, e.g. its SMILES.
        """
        via = f", of the {self.via} listed here" if self.via else ""
        lines = [f"{self.triple_type.tail} ({self.triple_type.relation}{via}):"]
        for node in self.nodes:
            note = f": {notes[node.id]}" if node.id in notes else ""
            lines.append(f"- {node.name} ({node.id}){note}{' [known]' if node.known else ''}")
        return "\n".join(lines)


def read_template(task: str, path: str | None) -> Template:
    """Reads a prompt template.

    Args:
      task: One of `TASKS`.
      path: Template file of the user; default: the package's template for the task.

    Raises:
      InputError: The file is missing, is empty, or has a field that is not one of `FIELDS`.
    """
    if path is None:
        folder = resources.files("bridge_jax.prompting") / "templates"
        text = (folder / f"{task}.txt").read_text("utf-8")
    elif not Path(path).is_file():
        raise InputError(f"{path}: no such template file")
    else:
        text = Path(path).read_text("utf-8")
    template = Template(text)
    if not text.strip() or not template.is_valid():
        raise InputError(
            f"{path}: is not a template; write text with fields such as $context, and $$ for a "
            "dollar sign"
        )
    for name in template.get_identifiers():
        if name not in FIELDS:
            raise unknown("field", f"${name}", [f"${field}" for field in FIELDS], "a template")
    return template


def fill_template(
    template: Template,
    node_type: str,
    node: ContextNode,
    sections: Sequence[Section],
    question: str,
    notes: Mapping[str, str],
) -> str:
    """Returns the prompt about a node.

    Args:
      template: Template with the fields `FIELDS`.
      node_type: Type of the node.
      node: Node that the prompt is about.
      sections: Neighbours of the node.
      question: Question to ask; may contain $name.
      notes: Text to show after a neighbour, by id, e.g. its SMILES.
    """
    return template.substitute(
        type=node_type,
        name=node.name,
        id=node.id,
        context="\n\n".join(section.as_text(notes) for section in sections),
        question=Template(question).safe_substitute(name=node.name),
    ).strip()
