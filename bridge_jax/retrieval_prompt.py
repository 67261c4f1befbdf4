"""From a node to a prompt: its neighbours by the bridge, one or two hops away, put into a template.

Source of the idea: the retrieval-augmented question answering and generation of Wang et al.,
"BioBridge", ICLR 2024; the templates are this project's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import jax
import numpy as np

from bridge_jax.errors import InputError, unknown
from bridge_jax.graph import Known, TripleType
from bridge_jax.trained import Trained

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
      kind: the triple type.
      via: the node type of the neighbours that were asked, in the second hop; else empty.
      nodes: the neighbours.
      rows: where they stand in their type's table.
    """

    kind: TripleType
    via: str
    nodes: tuple[Node, ...]
    rows: tuple[int, ...]

    def text(self, notes: Mapping[str, str]) -> str:
        """A heading and one line a neighbour, with a note where there is one."""
        of = f", of the {self.via} listed here" if self.via else ""
        lines = [f"{self.kind.tail} ({self.kind.relation}{of}):"]
        for node in self.nodes:
            note = f": {notes[node.id]}" if node.id in notes else ""
            lines.append(f"- {node.name} ({node.id}){note}{' [known]' if node.known else ''}")
        return "\n".join(lines)


class Surroundings:
    """Finds what stands around a node, by the scores of a trained bridge."""

    def __init__(self, bridge: Trained) -> None:
        """Hold the graph and the model.

        Args:
          bridge: opened with its dataset.

        Raises:
          InputError: it was opened without.
        """
        if bridge.setup is None:
            raise InputError(
                "this bridge was opened without its dataset, whose nodes are the candidates; give "
                "the dataset with --dataset"
            )
        self._bridge, self._setup = bridge, bridge.setup
        self._scorer = bridge.setup.scorer(bridge.params)

    def node(self, node_type: str, row: int, known: bool = False) -> Node:
        """A node by its row in the type's table."""
        names = self._bridge.neighbours.names(node_type)
        return Node(names.ids[row], names.names[row], known)

    def around(self, source: str, row: int, k: int) -> list[Section]:
        """The best k neighbours for each triple type of a node, and a hop further.

        A type that no fact joins to the source directly is asked of the neighbours found: their
        probabilities are averaged. Each such type is reached once, in the graph's order.

        Args:
          source: the node's type.
          row: of the node in the type's table.
          k: neighbours a section.
        """
        first = [
            self._section(kind, [row], k, "")
            for kind in self._setup.graph.triple_types
            if kind.head == source
        ]
        reached = {source} | {s.kind.tail for s in first}
        second = []
        for section in first:
            for kind in self._setup.graph.triple_types:
                if kind.head == section.kind.tail and kind.tail not in reached:
                    reached.add(kind.tail)
                    second.append(self._section(kind, section.rows, k, kind.head))
        return first + second

    def facts(self, kind: TripleType, rows: Sequence[int]) -> list[int]:
        """The known tails of some heads, in any split."""
        known: Known = self._setup.known[kind]
        return sorted(set(known.of(np.asarray(rows, np.int32))[1].tolist()))

    def known_of_type(self, source: str, row: int, target: str) -> list[Node]:
        """What the graph joins to a node: directly, else through the nodes it is joined to."""
        kinds = self._setup.graph.triple_types
        direct = {t for k in kinds if (k.head, k.tail) == (source, target)
                  for t in self.facts(k, [row])}  # fmt: skip
        if not direct:
            for a in (k for k in kinds if k.head == source):
                between = self.facts(a, [row])
                for b in (k for k in kinds if (k.head, k.tail) == (a.tail, target)):
                    direct |= set(self.facts(b, between)) if between else set()
        return [self.node(target, t, True) for t in sorted(direct)]

    def _section(self, kind: TripleType, rows: Sequence[int], k: int, via: str) -> Section:
        logits = self._scorer(kind, np.asarray(rows, np.int32))
        share = np.array(jax.nn.softmax(logits, axis=1).mean(axis=0))
        if kind.head == kind.tail:
            share[list(rows)] = -1.0  # a node is no neighbour of its own
        best = np.argsort(-share, kind="stable")[:k].tolist()
        known = set(self.facts(kind, rows))
        nodes = tuple(self.node(kind.tail, t, t in known) for t in best)
        return Section(kind, via, nodes, tuple(best))


def read_template(task: str, path: str | None) -> Template:
    """A template: the package's, or a user's.

    Raises:
      InputError: the file is missing or empty, or has a field that is not of `FIELDS`.
    """
    if path is None:
        text = resources.files("bridge_jax").joinpath(f"prompts/{task}.txt").read_text("utf-8")
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
