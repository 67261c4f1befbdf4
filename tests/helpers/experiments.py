"""Experiments with other test facts than those of the small dataset."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bridge_jax.data.graph import Facts, Graph, Pairs, TripleType
from bridge_jax.experiment.experiment import Experiment


def with_test_facts(
    experiment: Experiment, rows: Sequence[np.ndarray], heldout_types: Sequence[str] = ()
) -> Experiment:
    """Replaces the test facts of an experiment.

    Args:
      experiment: The experiment; it is not changed.
      rows: Test facts, arrays of `fact_rows`.
      heldout_types: Node types to hold out as a whole: their nodes lose all other facts.
    """
    graph = experiment.graph
    test = np.concatenate([np.zeros((0, 3), int), *rows])
    columns = (*test.T, np.ones(len(test)))
    facts = {**graph.facts, "test": Facts(*(np.asarray(c, np.int32) for c in columns))}
    nodes = np.arange(int(graph.offsets[-1]), dtype=np.int32)
    is_heldout = np.isin(graph.types_of(nodes), [graph.type_id(t) for t in heldout_types])
    for split in ("train", "validation"):
        stored = facts[split]
        facts[split] = stored[~(is_heldout[stored.head] | is_heldout[stored.tail])]
    heldout = {"test": nodes[is_heldout]} if heldout_types else {}
    return replace(experiment, graph=replace(graph, facts=facts, heldout=heldout))


def fact_rows(graph: Graph, triple_type: TripleType, pairs: Pairs) -> np.ndarray:
    """Returns pairs of local ids as rows (head, relation, tail) of global ids."""
    relation = np.full(len(pairs.heads), graph.relation_id(triple_type.relation))
    offsets = (graph.offsets[graph.type_id(t)] for t in (triple_type.head, triple_type.tail))
    head, tail = (ids + offset for ids, offset in zip(pairs, offsets, strict=True))
    return np.stack([head, relation, tail], axis=1)
