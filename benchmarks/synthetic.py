"""A graph of PrimeKG's true size and proportions, with random content.

Node counts and dimensions are those of BioBridge's six modalities (ESM-2 3B, Uni-Mol, PubMedBERT
and the text encoders), the number of directed triples is BioBridge's; the shares of the relations
are PrimeKG's (Chandak et al., "Building a knowledge graph to enable precision medicine", 2023).
"""

import numpy as np

from bridge_jax.data.embedding_tables import Table
from bridge_jax.data.graph import Facts, Graph

PROTEIN, DRUG, DISEASE = "gene/protein", "drug", "disease"
FUNCTION, PROCESS, COMPONENT = "molecular_function", "biological_process", "cellular_component"
# Together 85,466 nodes.
NODES = {
    PROTEIN: (19_162, 2560),
    FUNCTION: (10_966, 768),
    COMPONENT: (4_013, 768),
    PROCESS: (27_478, 768),
    DRUG: (6_767, 512),
    DISEASE: (17_080, 768),
}
DIRECTED_TRIPLES = 3_904_610
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


def primekg(part: float = 1.0, seed: int = 0) -> Graph:
    """A graph with training facts alone.

    Args:
      part: of PrimeKG's facts; the nodes are all there.
      seed: of the random facts.
    """
    rng = np.random.default_rng(seed)
    names, counts = tuple(NODES), tuple(count for count, _ in NODES.values())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    wanted = part * DIRECTED_TRIPLES / 2 / sum(SHARES.values())
    found = []
    for relation, ((head, _, tail), share) in enumerate(SHARES.items()):
        count = round(share * wanted)
        ends = [
            offsets[names.index(kind)] + rng.integers(0, NODES[kind][0], count)
            for kind in (head, tail)
        ]
        found.append(np.stack([ends[0], np.full(count, relation), ends[1]]).astype(np.int32))
    rows = np.concatenate(found, axis=1)
    facts = Facts(rows[0], rows[1], rows[2], np.ones(rows.shape[1], np.int32))
    return Graph(names, counts, tuple(r for _, r, _ in SHARES), {"train": facts})


def tables(seed: int = 0) -> dict[str, Table]:
    """Random embeddings in float16, as encoders' exports are often stored."""
    rng = np.random.default_rng(seed)
    return {
        name: Table(
            [str(i) for i in range(count)],
            rng.standard_normal((count, dim), np.float32).astype(np.float16),
            np.zeros(dim, np.float32),
            np.ones(dim, np.float32),
        )
        for name, (count, dim) in NODES.items()
    }
