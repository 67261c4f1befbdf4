"""Context of a node: its best neighbours, one or two hops away, by the scores of a bridge."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor
from bridge_jax.prompting.template import ContextNode, Section


class ContextBuilder:
    """Retrieves the neighbours of a node that a prompt lists.

    Example:
      >>> builder = ContextBuilder(bridge_jax.load("runs/demo"))
      >>> sections = builder.build("gene/protein", row=7, k=5)
    """

    def __init__(self, bridge: Predictor) -> None:
        """Stores the bridge.

        Args:
          bridge: Bridge that was opened with its dataset.

        Raises:
          InputError: The bridge was opened without a dataset.
        """
        if bridge.experiment is None:
            raise InputError(
                "this bridge was opened without its dataset, whose nodes are the candidates; give "
                "the dataset with --dataset"
            )
        self._bridge, self._experiment = bridge, bridge.experiment
        self._scorer = bridge.experiment.scorer(bridge.params)

    def node(self, node_type: str, row: int, known: bool = False) -> ContextNode:
        """Returns a node for display.

        Args:
          node_type: Type of the node.
          row: Row of the node in the type's table.
          known: Whether the graph contains the relation that leads to the node.
        """
        index = self._bridge.retriever.node_index(node_type)
        return ContextNode(index.ids[row], index.names[row], known)

    def build(
        self, source: str, row: int | None, k: int, x: Float[np.ndarray, "1 dim"] | None = None
    ) -> list[Section]:
        """Returns the k best neighbours of a node for each triple type, one and two hops away.

        The second hop covers node types that no triple type joins to the source. Each is ranked
        once, by the first triple type of the graph that leads to it from a section of the first
        hop: its scores are the probabilities averaged over the neighbours of that section.

        Args:
          source: Node type of the node.
          row: Row of the node in the type's table; None for a new one.
          k: Number of neighbours per section.
          x: Raw embedding of a new node.

        Returns:
          Sections of the first hop, then those of the second hop.
        """
        triple_types = self._experiment.graph.triple_types
        heads = [] if row is None else [row]
        first_hop = [
            self._section(t, heads, k, via="", x=x) for t in triple_types if t.head == source
        ]
        covered = {source} | {section.triple_type.tail for section in first_hop}
        second_hop = []
        for section in first_hop:
            for triple_type in triple_types:
                if triple_type.head == section.triple_type.tail and triple_type.tail not in covered:
                    covered.add(triple_type.tail)
                    second_hop.append(
                        self._section(triple_type, section.rows, k, via=triple_type.head)
                    )
        return first_hop + second_hop

    def known_tails(self, triple_type: TripleType, heads: Sequence[int]) -> list[int]:
        """Returns the rows of all known tails of some heads, in any split, sorted.

        Args:
          triple_type: Triple type of the facts.
          heads: Rows of the head type's table.
        """
        known = self._experiment.known[triple_type]
        return sorted(set(known.of(np.asarray(heads, np.int32))[1].tolist()))

    def known_neighbours(self, source: str, row: int, target: str) -> list[ContextNode]:
        """Returns the nodes of a type that the graph joins to a node, sorted by row.

        Paths of two facts count only if no single fact joins the node to this type.

        Args:
          source: Node type of the node.
          row: Row of the node in the type's table.
          target: Node type of the neighbours.
        """
        triple_types = self._experiment.graph.triple_types
        tails = set[int]()
        for triple_type in triple_types:
            if (triple_type.head, triple_type.tail) == (source, target):
                tails.update(self.known_tails(triple_type, [row]))
        if not tails:
            for first in triple_types:
                intermediate = self.known_tails(first, [row]) if first.head == source else []
                for second in triple_types:
                    if intermediate and (second.head, second.tail) == (first.tail, target):
                        tails.update(self.known_tails(second, intermediate))
        return [self.node(target, tail, known=True) for tail in sorted(tails)]

    def _section(
        self,
        triple_type: TripleType,
        heads: Sequence[int],
        k: int,
        via: str,
        x: Float[np.ndarray, "1 dim"] | None = None,
    ) -> Section:
        if x is None:
            logits = self._scorer(triple_type, np.asarray(heads, np.int32))
        else:
            logits = self._scorer.score_embeddings(triple_type, x)
        probabilities = np.array(jax.nn.softmax(logits, axis=1).mean(axis=0))
        if triple_type.head == triple_type.tail:
            probabilities[list(heads)] = -1.0  # a node is never its own neighbour
        best = np.argsort(-probabilities, kind="stable")[:k].tolist()
        known = set(self.known_tails(triple_type, heads))
        nodes = tuple(self.node(triple_type.tail, tail, tail in known) for tail in best)
        return Section(triple_type, via, nodes, tuple(best))
