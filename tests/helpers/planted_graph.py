"""A small graph with a planted linear relation, for tests of baselines."""

import numpy as np

from bridge_jax.data.graph import Facts, Graph, TripleType
from bridge_jax.data.splits import split_facts

NUM_DRUGS, NUM_PROTEINS = 90, 60
TARGET = TripleType("drug", "target", "protein")
PPI = TripleType("protein", "ppi", "protein")


def make_facts(head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> Facts:
    """Returns facts with global node ids, none of them mirrored."""
    columns = (np.asarray(c, np.int32) for c in (head, relation, tail, np.zeros(len(head))))
    return Facts(*columns)


def planted_graph(rule: str = "inductive") -> tuple[Graph, dict[str, np.ndarray]]:
    """Makes a split graph and its embeddings.

    Each drug binds the three proteins that a hidden linear map of its embedding points at; proteins
    interact if their embeddings are similar.

    Args:
      rule: Split rule, `inductive` or `transductive`.
    """
    rng = np.random.default_rng(0)
    protein = rng.normal(size=(NUM_PROTEINS, 8)).astype(np.float32)
    hidden = rng.normal(size=(NUM_DRUGS, 8))
    drug = (hidden @ rng.normal(size=(8, 12)) * 3 + 1).astype(np.float32)
    unit = protein / np.linalg.norm(protein, axis=1, keepdims=True)
    targets = np.argsort(-(hidden @ unit.T), axis=1)[:, :3]
    a, b = np.where(np.triu(unit @ unit.T > 0.5, 1))
    heads = np.concatenate([np.repeat(np.arange(NUM_DRUGS), 3), a + NUM_DRUGS])
    tails = np.concatenate([targets.ravel(), b]) + NUM_DRUGS
    relations = np.concatenate([np.zeros(3 * NUM_DRUGS), np.ones(len(a))])
    graph = Graph(
        ("drug", "protein"),
        (NUM_DRUGS, NUM_PROTEINS),
        ("target", "ppi"),
        {"train": make_facts(heads, relations, tails)},
    )
    ids = [[f"d{i}" for i in range(NUM_DRUGS)], [f"p{i}" for i in range(NUM_PROTEINS)]]
    graph = split_facts(graph, ids, rule, seed=1, test=0.15, validation=0.15)
    return graph, {"drug": drug, "protein": protein}


def all_heads(triple_type: TripleType) -> np.ndarray:
    """Returns the local ids of all heads of a triple type."""
    return np.arange({"drug": NUM_DRUGS, "protein": NUM_PROTEINS}[triple_type.head], dtype=np.int32)
