"""Synthetic graph with the size and proportions of PrimeKG and random content.

Node counts, embedding dimensions (ESM-2 3B, Uni-Mol, PubMedBERT) and the number of directed triples
are those of BioBridge's six modalities. The shares of the relations are PrimeKG's.

References:
  Chandak et al., "Building a knowledge graph to enable precision medicine", 2023.
"""

import numpy as np

from bridge_jax.data.embedding_tables import EmbeddingTable
from bridge_jax.data.graph import Facts, Graph

PROTEIN, DRUG, DISEASE = "gene/protein", "drug", "disease"
FUNCTION, PROCESS, COMPONENT = "molecular_function", "biological_process", "cellular_component"
# Number of nodes and dimension of their embeddings; 85,466 nodes in all.
NODES = {
    PROTEIN: (19_162, 2560),
    FUNCTION: (10_966, 768),
    COMPONENT: (4_013, 768),
    PROCESS: (27_478, 768),
    DRUG: (6_767, 512),
    DISEASE: (17_080, 768),
}
DIRECTED_TRIPLES = 3_904_610
# Number of rows of each (head type, relation, tail type) in PrimeKG.
SHARES = {
    (DRUG, "drug_drug", DRUG): 2_672_628,
    (PROTEIN, "protein_protein", PROTEIN): 642_150,
    (PROCESS, "bioprocess_protein", PROTEIN): 289_610,
    (COMPONENT, "cellcomp_protein", PROTEIN): 166_804,
    (DISEASE, "disease_protein", PROTEIN): 160_822,
    (FUNCTION, "molfunc_protein", PROTEIN): 139_060,
    (PROCESS, "bioprocess_bioprocess", PROCESS): 105_772,
    (DISEASE, "disease_disease", DISEASE): 64_388,
    (DRUG, "contraindication", DISEASE): 61_350,
    (DRUG, "drug_protein", PROTEIN): 51_306,
    (FUNCTION, "molfunc_molfunc", FUNCTION): 27_148,
    (DRUG, "indication", DISEASE): 18_776,
    (COMPONENT, "cellcomp_cellcomp", COMPONENT): 9_690,
    (DRUG, "off-label use", DISEASE): 5_136,
}


def primekg(fraction: float = 1.0, seed: int = 0) -> Graph:
    """Builds a graph that has training facts only.

    Args:
      fraction: Share of PrimeKG's facts; all nodes are kept.
      seed: Seed of the random facts.
    """
    rng = np.random.default_rng(seed)
    names, counts = tuple(NODES), tuple(count for count, _ in NODES.values())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    facts_per_share = fraction * DIRECTED_TRIPLES / 2 / sum(SHARES.values())
    columns = []
    for relation, ((head, _, tail), share) in enumerate(SHARES.items()):
        count = round(share * facts_per_share)
        heads, tails = (
            offsets[names.index(node_type)] + rng.integers(0, NODES[node_type][0], count)
            for node_type in (head, tail)
        )
        columns.append(np.stack([heads, np.full(count, relation), tails]).astype(np.int32))
    head, relation_ids, tail = np.concatenate(columns, axis=1)
    facts = Facts(head, relation_ids, tail, np.ones(len(head), np.int32))
    return Graph(names, counts, tuple(r for _, r, _ in SHARES), {"train": facts})


def tables(seed: int = 0) -> dict[str, EmbeddingTable]:
    """Returns random float16 embeddings, as exports of encoders are often stored."""
    rng = np.random.default_rng(seed)
    return {
        name: EmbeddingTable(
            [str(i) for i in range(count)],
            rng.standard_normal((count, dim), np.float32).astype(np.float16),
            np.zeros(dim, np.float32),
            np.ones(dim, np.float32),
        )
        for name, (count, dim) in NODES.items()
    }
