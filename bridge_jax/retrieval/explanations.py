"""Explanations of answers with ids and names, as JSON and as text."""

from typing import Any, NamedTuple

_NOUNS = {
    "source": "similar {head} nodes that have it",
    "bridged": "{head} nodes with a similar bridged embedding that have it",
    "tails": "its similarity to known answers",
}
_MAX_NAMED = 3


class NamedNode(NamedTuple):
    """A node behind an answer.

    Attributes:
      id: Id of the node.
      name: Its name.
      similarity: Its cosine with the query, or, in the space `tails`, with the answer.
      weight: Share of the space's votes for the answer that it gives.
    """

    id: str
    name: str
    similarity: float
    weight: float


class Explanation(NamedTuple):
    """Why a node is an answer.

    Attributes:
      id: Id of the answer.
      name: Its name.
      shares: Share of its probability that comes from the bridge and from each space.
      similar: Nodes behind the votes of each space, largest weight first.
      paths: Known facts that lead from the query to the answer, each path as a list of texts: name,
        relation, name, …; the split of a fact that was not trained on is in brackets.
    """

    id: str
    name: str
    shares: dict[str, float]
    similar: dict[str, list[NamedNode]]
    paths: list[list[str]]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        similar = {space: [n._asdict() for n in nodes] for space, nodes in self.similar.items()}
        return {**self._asdict(), "similar": similar}

    def as_text(self, head_type: str) -> str:
        """Formats an explanation as indented lines, the largest share first.

        Args:
          explanation: The self.
          head_type: Node type of the query.
        """
        lines = [f"{self.id}  {self.name}"]
        for part, share in sorted(self.shares.items(), key=lambda item: -item[1]):
            if share < 0.005:
                continue
            if part == "bridge":
                lines.append(f"  {share:4.0%} from the bridge")
                continue
            line = f"  {share:4.0%} from {_NOUNS[part].format(head=head_type)}"
            nodes = self.similar.get(part, ())
            if named := [
                f"{n.name} (similarity {n.similarity:.2f}, {n.weight:.0%})"
                for n in nodes[:_MAX_NAMED]
            ]:
                more = ", …" if len(nodes) > _MAX_NAMED else ""
                line += f": {', '.join(named)}{more}"
            lines.append(line)
        lines += [f"  path: {' → '.join(path)}" for path in self.paths]
        return "\n".join(lines)
