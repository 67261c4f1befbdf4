"""Small knowledge graphs: 40 diseases, 60 drugs and 100 proteins with global ids 0 to 199."""

import numpy as np

from bridge_jax.data.graph import Facts, Graph

NODE_TYPES, COUNTS = ("disease", "drug", "gene/protein"), (40, 60, 100)
RELATIONS = ("indication", "off-label use", "ppi", "target")
TYPES_OF = np.repeat(np.arange(3), COUNTS)


def facts_of(*rows: tuple[int, int, int]) -> Facts:
    """Returns facts from rows (global head id, relation id, global tail id), all mirrored."""
    head, relation, tail = np.array(rows, np.int32).reshape(-1, 3).T
    return Facts(head, relation, tail, np.ones_like(head))


def rows_of(facts: Facts) -> set[tuple[int, int, int]]:
    """Returns the rows of some facts."""
    return set(zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True))


def graph_of(**splits: list[tuple[int, int, int]]) -> Graph:
    """Returns a graph with the given rows as the facts of each split."""
    facts = {split: facts_of(*rows) for split, rows in splits.items()}
    return Graph(NODE_TYPES, COUNTS, RELATIONS, facts)
