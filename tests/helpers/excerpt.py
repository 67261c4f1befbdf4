"""Imports of source graphs, such as the excerpt of a knowledge graph, with random embeddings."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge_jax.data.manifest import file_name
from tests.helpers.tiny_run import EXCERPT
from tools import import_graph
from tools.formats import FORMATS
from tools.formats.edges import SourceNode

DIM = 4


def write_embeddings(folder: Path, nodes: Sequence[SourceNode]) -> Path:
    """Writes one `.npz` file of random float16 vectors for each node type."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    ids: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        ids[node.type].append(node.id)
    for node_type, of_type in ids.items():
        x = rng.normal(size=(len(of_type), DIM)).astype(np.float16)
        np.savez(folder / f"{file_name(node_type)}.npz", ids=np.array(of_type), x=x)
    return folder


def import_excerpt(folder: Path, *options: str, more_rows: str = "") -> Path:
    """Imports the excerpt, and further rows of PrimeKG's layout, as a dataset directory."""
    source = folder / "kg.csv"
    source.write_text(EXCERPT.read_text() + more_rows)
    embeddings = write_embeddings(folder / "embeddings", FORMATS["primekg"](source).nodes)
    argv = ["--format", "primekg", "--input", str(source), "--embeddings", str(embeddings)]
    import_graph.main([*argv, "--output", str(folder / "out"), *options])
    return folder / "out"
