"""Imports a graph with the size and shape of PrimeKG and measures time and memory.

    python -m benchmarks.import_primekg --folder primekg

Writes a `kg.csv` with the node types, relations and size of PrimeKG (129,375 nodes, 8.1 million
rows, both directions of every fact, few hubs and many leaves) and random embeddings of all nodes,
and imports them in a separate process. Expected on two cores: under 3 minutes and 6 GiB.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from bridge_jax import cli

NODES = {
    "biological_process": 28_642, "gene/protein": 27_671, "disease": 17_080,
    "effect/phenotype": 15_311, "anatomy": 14_035, "molecular_function": 11_169, "drug": 7_957,
    "cellular_component": 4_176, "pathway": 2_516, "exposure": 818,
}  # fmt: skip
# Relation, display relation, head type, tail type, rows in the file (both directions).
RELATIONS = (
    ("anatomy_protein_present", "expression present", "anatomy", "gene/protein", 3_036_406),
    ("drug_drug", "synergistic interaction", "drug", "drug", 2_672_628),
    ("protein_protein", "ppi", "gene/protein", "gene/protein", 642_150),
    ("disease_phenotype_positive", "phenotype present", "disease", "effect/phenotype", 300_634),
    ("bioprocess_protein", "interacts with", "gene/protein", "biological_process", 289_610),
    ("cellcomp_protein", "interacts with", "gene/protein", "cellular_component", 166_804),
    ("disease_protein", "associated with", "gene/protein", "disease", 160_822),
    ("molfunc_protein", "interacts with", "gene/protein", "molecular_function", 139_060),
    ("drug_effect", "side effect", "drug", "effect/phenotype", 129_568),
    ("bioprocess_bioprocess", "parent-child", "biological_process", "biological_process", 105_772),
    ("pathway_protein", "interacts with", "gene/protein", "pathway", 85_292),
    ("disease_disease", "parent-child", "disease", "disease", 64_388),
    ("contraindication", "contraindication", "drug", "disease", 61_350),
    ("drug_protein", "target", "drug", "gene/protein", 51_306),
    ("anatomy_protein_absent", "expression absent", "anatomy", "gene/protein", 39_774),
    ("phenotype_phenotype", "parent-child", "effect/phenotype", "effect/phenotype", 37_472),
    ("anatomy_anatomy", "parent-child", "anatomy", "anatomy", 28_064),
    ("molfunc_molfunc", "parent-child", "molecular_function", "molecular_function", 27_148),
    ("indication", "indication", "drug", "disease", 18_776),
    ("cellcomp_cellcomp", "parent-child", "cellular_component", "cellular_component", 9_690),
    ("phenotype_protein", "associated with", "gene/protein", "effect/phenotype", 6_660),
    ("off-label use", "off-label use", "drug", "disease", 5_136),
    ("pathway_pathway", "parent-child", "pathway", "pathway", 5_070),
    ("exposure_protein", "interacts with", "exposure", "gene/protein", 4_848),
    ("exposure_disease", "linked to", "exposure", "disease", 4_608),
    ("exposure_exposure", "parent-child", "exposure", "exposure", 4_140),
    ("exposure_bioprocess", "interacts with", "exposure", "biological_process", 3_250),
    ("disease_phenotype_negative", "phenotype absent", "disease", "effect/phenotype", 2_386),
    ("exposure_molfunc", "interacts with", "exposure", "molecular_function", 90),
    ("exposure_cellcomp", "interacts with", "exposure", "cellular_component", 20),
)
DIM = 16
MAX_SECONDS, MAX_GIB = 180, 6


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    folder = Path(args.folder)
    start = time.perf_counter()
    num_rows = write_graph(folder, np.random.default_rng(args.seed))
    seconds, size = time.perf_counter() - start, (folder / "kg.csv").stat().st_size
    print(f"kg.csv: {num_rows:,} rows, {size / 1e6:.0f} MB, written in {seconds:.0f} s")
    command = [
        *(sys.executable, "-m", "tools.import_graph", "--format", "primekg", "--overwrite"),
        *("--input", str(folder / "kg.csv"), "--embeddings", str(folder / "embeddings")),
        *("--output", str(folder / "dataset"), "--split", args.split),
    ]
    start = time.perf_counter()
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_gib = usage.ru_maxrss / 2**20
    print("\n".join(process.stdout.splitlines()[-13:]))
    print(
        f"imported in {seconds:.1f} s ({num_rows / seconds:,.0f} rows/s; {usage.ru_utime:.0f} s "
        f"user), peak {peak_gib:.2f} GiB, on {len(os.sched_getaffinity(0))} cores"
    )
    return 0 if seconds < MAX_SECONDS and peak_gib < MAX_GIB else 1


def write_graph(folder: Path, rng: np.random.Generator) -> int:
    """Writes `kg.csv` and the embeddings; returns the number of rows of `kg.csv`.

    Args:
      folder: Folder to write.
      rng: Random generator.
    """
    starts = dict(zip(NODES, np.cumsum([0, *NODES.values()]).tolist(), strict=False))
    node_types = np.repeat(list(NODES), list(NODES.values()))
    ids = np.array([f"{t[:2].upper()}{i:06d}" for i, t in enumerate(node_types)])
    names = np.array(
        [f"{t} no. {i}" if i % 50 else f"{t}, no. {i}" for i, t in enumerate(node_types)]
    )
    (folder / "embeddings").mkdir(parents=True, exist_ok=True)
    for node_type, count in NODES.items():
        start = starts[node_type]
        x = rng.normal(size=(count, DIM)).astype(np.float32)
        path = folder / f"embeddings/{node_type.replace('/', '_')}.npz"
        np.savez(path, ids=ids[start : start + count], x=x)
    num_rows = 0
    columns = ["relation", "display_relation"]
    columns += [f"{e}_{c}" for e in "xy" for c in ("index", "id", "type", "name", "source")]
    schema = pa.schema([(c, pa.int64() if c.endswith("index") else pa.string()) for c in columns])
    with pacsv.CSVWriter(folder / "kg.csv", schema) as writer:
        for relation, display_relation, head, tail, rows in RELATIONS:
            h, t = _draw_pairs(rng, NODES[head], NODES[tail], rows // 2, head == tail)
            h, t = h + starts[head], t + starts[tail]
            x, y = np.concatenate([h, t]), np.concatenate([t, h])
            table = [np.full(len(x), relation), np.full(len(x), display_relation)]
            for end in (x, y):
                source = np.full(len(end), "source")
                table += [end, ids[end], node_types[end], names[end], source]
            writer.write(pa.table([pa.array(c) for c in table], schema=schema))
            num_rows += len(x)
    return num_rows


def _draw_pairs(
    rng: np.random.Generator, num_heads: int, num_tails: int, count: int, same_type: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draws distinct pairs; a node's share falls with its rank, as in the real graph."""
    pairs = np.zeros(0, np.int64)
    while len(pairs) < count:
        h = (num_heads * rng.random(2 * count) ** 2).astype(np.int64)
        t = (num_tails * rng.random(2 * count) ** 2).astype(np.int64)
        if same_type:
            h, t = np.minimum(h, t)[h != t], np.maximum(h, t)[h != t]
        pairs = np.unique(np.concatenate([pairs, h * num_tails + t]))
    pairs = rng.permutation(pairs)[:count]
    return pairs // num_tails, pairs % num_tails


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.import_primekg", __doc__)
    parser.add_argument("--folder", required=True, help="folder to write, about 1.2 GB")
    parser.add_argument("--split", default="inductive", help="split rule; default: inductive")
    parser.add_argument("--seed", type=int, default=0, help="seed of the graph; default: 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
