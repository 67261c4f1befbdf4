"""What stands around a node, one or two hops away, by the scores of a trained bridge."""

from collections.abc import Sequence

import jax
import numpy as np

from bridge_jax.data.graph import Known, TripleType
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor
from bridge_jax.prompting.template import Node, Section


class ContextBuilder:
    """Finds what stands around a node, by the scores of a trained bridge."""

    def __init__(self, bridge: Predictor) -> None:
        """Hold the graph and the model.

        Args:
          bridge: opened with its dataset.

        Raises:
          InputError: it was opened without.
        """
        if bridge.experiment is None:
            raise InputError(
                "this bridge was opened without its dataset, whose nodes are the candidates; give "
                "the dataset with --dataset"
            )
        self._bridge, self._experiment = bridge, bridge.experiment
        self._scorer = bridge.experiment.scorer(bridge.params)

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
            self._section(triple_type, [row], k, "")
            for triple_type in self._experiment.graph.triple_types
            if triple_type.head == source
        ]
        reached = {source} | {s.triple_type.tail for s in first}
        second = []
        for section in first:
            for triple_type in self._experiment.graph.triple_types:
                if triple_type.head == section.triple_type.tail and triple_type.tail not in reached:
                    reached.add(triple_type.tail)
                    second.append(self._section(triple_type, section.rows, k, triple_type.head))
        return first + second

    def facts(self, triple_type: TripleType, rows: Sequence[int]) -> list[int]:
        """The known tails of some heads, in any split."""
        known: Known = self._experiment.known[triple_type]
        return sorted(set(known.of(np.asarray(rows, np.int32))[1].tolist()))

    def known_of_type(self, source: str, row: int, target: str) -> list[Node]:
        """What the graph joins to a node: directly, else through the nodes it is joined to."""
        triple_types = self._experiment.graph.triple_types
        direct = {t for k in triple_types if (k.head, k.tail) == (source, target)
                  for t in self.facts(k, [row])}  # fmt: skip
        if not direct:
            for a in (k for k in triple_types if k.head == source):
                between = self.facts(a, [row])
                for b in (k for k in triple_types if (k.head, k.tail) == (a.tail, target)):
                    direct |= set(self.facts(b, between)) if between else set()
        return [self.node(target, t, True) for t in sorted(direct)]

    def _section(self, triple_type: TripleType, rows: Sequence[int], k: int, via: str) -> Section:
        logits = self._scorer(triple_type, np.asarray(rows, np.int32))
        share = np.array(jax.nn.softmax(logits, axis=1).mean(axis=0))
        if triple_type.head == triple_type.tail:
            share[list(rows)] = -1.0  # a node is no neighbour of its own
        best = np.argsort(-share, kind="stable")[:k].tolist()
        known = set(self.facts(triple_type, rows))
        nodes = tuple(self.node(triple_type.tail, t, t in known) for t in best)
        return Section(triple_type, via, nodes, tuple(best))
