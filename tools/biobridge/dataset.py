"""Conversion of a clone's triples, split and embeddings to a dataset directory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.manifest import SPLITS, Manifest
from bridge_jax.data.splits import split_facts
from bridge_jax.errors import InputError, unknown

from ..formats.biobridge import SPLIT, Clone, read_node_names, read_triples
from ..formats.edges import Edges, EdgesBuilder
from ..formats.safe_pickle import load
from ..ingest.embeddings import Embeddings
from ..ingest.node_matching import MatchedNodes
from ..ingest.write_dataset import collapse_edges, count_rows, write_dataset

EMBEDDINGS = "esm2b_unimo_pubmedbert"  # folder of the released embeddings
SOURCES = [
    {
        "part": "nodes, triples, split and embeddings",
        "source": "BioBridge (RyanWangZf/BioBridge), from PrimeKG",
        "licence": "see the clone; PrimeKG's parts have their own, DrugBank's is non-commercial",
    }
]
_NODE_TYPE_OF_PICKLE = {
    "protein": "gene/protein",
    "mf": "molecular_function",
    "cc": "cellular_component",
    "bp": "biological_process",
    "drug": "drug",
    "disease": "disease",
}


def import_clone(
    clone: Clone,
    embeddings: Path,
    output: Path,
    name: str,
    validation: float,
    seed: int,
    sources: Sequence[dict[str, str]],
) -> Manifest:
    """Writes the data of a clone as a dataset directory.

    Args:
      clone: The clone.
      embeddings: Folder of pickles.
      output: Dataset directory; if an error is raised, a dataset in it stays unchanged.
      name: Name of the dataset.
      validation: Fraction of the nodes of each type whose training rows become validation rows.
      seed: Random seed for the choice of these nodes.
      sources: Source and licence of each part, for the manifest.

    Returns:
      The manifest; its file is written last.

    Raises:
      InputError: A file is missing, damaged or unsafe.
    """
    node_types = _names_in_code_order(clone.node_types, "node_type")
    relations = _names_in_code_order(clone.relations, "relation_type")
    builder = EdgesBuilder()
    node_names = read_node_names(clone.folder, builder)
    edges = read_triples(clone, list(SPLIT), node_names, builder)
    nodes = _match_nodes(edges, node_types, read_pickles(embeddings, node_types), node_names)
    collapsed, rejects = collapse_edges(edges, nodes)
    counts = count_rows(edges, collapsed, rejects)
    facts = _released_split(edges, nodes, relations)
    graph = Graph(node_types, nodes.counts, relations, facts, directed=True)
    graph = _split_off_validation(graph, nodes, validation, seed)
    for split in ("train", "test"):
        if not len(graph.facts[split]):
            raise InputError(f"{clone.folder}: no usable {split} row")
    about = {"rule": "biobridge", "seed": seed, "test": 0.1, "validation": validation}
    about["released"] = True
    findings = [*rejects, *edges.notices]
    return write_dataset(output, name, nodes, graph, about, counts, findings, sources)


def read_pickles(folder: Path, node_types: Sequence[str]) -> dict[str, Embeddings]:
    """Reads the embeddings of a clone.

    Args:
      folder: Folder with some of `protein.pkl`, `mf.pkl`, `cc.pkl`, `bp.pkl`, `drug.pkl` and
        `disease.pkl`.
      node_types: Node types of the graph.

    Returns:
      Embeddings by node type; the ids are PrimeKG's node indices.

    Raises:
      InputError: There is no pickle, or one is unsafe, damaged or of an unknown node type.
    """
    embeddings: dict[str, Embeddings] = {}
    for path in sorted(folder.glob("*.pkl")):
        node_type = _NODE_TYPE_OF_PICKLE.get(path.stem, "")
        if node_type not in node_types:
            raise unknown(
                "embedding file", path.stem, _NODE_TYPE_OF_PICKLE, "the names of the repository"
            )
        index, x = _read_pickle(path)
        metadata = {"encoder": f"{folder.name}/{path.name}", "source": "BioBridge"}
        ids = [str(i) for i in index.tolist()]
        embeddings[node_type] = Embeddings(ids, x, metadata, "node_index")
    if not embeddings:
        raise InputError(
            f"{folder}: no embeddings; expected {', '.join(_NODE_TYPE_OF_PICKLE)} as .pkl"
        )
    return embeddings


def _read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the node indices `[n]` and the vectors `[n, dim]` of one pickle."""
    value = load(path)
    if not isinstance(value, dict) or not {"node_index", "embedding"} <= set(value):
        raise InputError(f"{path}: must hold a dict with 'node_index' and 'embedding'")
    try:
        index, x = (np.asarray(value[k]) for k in ("node_index", "embedding"))
    except ValueError as e:
        raise InputError(f"{path}: vectors of different lengths: {e}") from e
    if index.dtype.kind not in "iu" or x.dtype.kind != "f" or x.shape[:1] != index.shape:
        raise InputError(
            f"{path}: node_index must be integers and embedding one float vector for each; they "
            f"are {index.dtype} {index.shape} and {x.dtype} {x.shape}"
        )
    return index, x.astype(np.float32) if x.dtype == np.float64 else x


def _names_in_code_order(names: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Returns the names of a vocabulary by code, as released weights index their tables."""
    if set(names) != {str(i) for i in range(len(names))}:
        raise InputError(
            f"data_config.json: the codes of {key} must be 0 to {len(names) - 1}; they are "
            f"{', '.join(sorted(names))}"
        )
    return tuple(names[str(i)] for i in range(len(names)))


def _match_nodes(
    edges: Edges,
    node_types: tuple[str, ...],
    embeddings: Mapping[str, Embeddings],
    node_names: Mapping[str, tuple[str, str]],
) -> MatchedNodes:
    """Returns the nodes with an embedding, in the order of the types; an id may be the index."""
    tables: dict[str, Embeddings] = {}
    names: dict[tuple[str, str], str] = {}
    global_id: dict[tuple[str, str], int] = {}
    start = 0
    for node_type in (t for t in node_types if t in embeddings):
        table = embeddings[node_type]
        names_of = {i: node_names.get(i, ("", "")) for i in table.ids}
        tables[node_type] = replace(table, ids=[names_of[i][0] or i for i in table.ids])
        names |= {(node_type, id_): name for id_, name in names_of.values() if name}
        global_id |= {(node_type, i): start + k for k, i in enumerate(table.ids)}
        start += len(table.ids)
    global_ids = [global_id.get((n.type, n.node_index), -1) for n in edges.nodes]
    return MatchedNodes(node_types, tables, names, np.array(global_ids, np.int64))


def _released_split(
    edges: Edges, nodes: MatchedNodes, relations: Sequence[str]
) -> dict[str, Facts]:
    """Returns the distinct directed rows as released; a row of both files is a test row."""
    relation_ids = np.array([relations.index(r) for r in edges.relations], np.int64)
    head, tail = nodes.global_ids[edges.head], nodes.global_ids[edges.tail]
    keep = (edges.head != edges.tail) & (head >= 0) & (tail >= 0)
    head, tail, relation = head[keep], tail[keep], relation_ids[edges.relation[keep]]
    num_nodes = np.int64(sum(nodes.counts))
    keys = (relation * num_nodes + head) * num_nodes + tail
    _, first = np.unique(keys, return_index=True)
    first.sort()
    mirrored = np.isin((relation * num_nodes + tail) * num_nodes + head, keys)
    facts = Facts(*(c[first].astype(np.int32) for c in (head, relation, tail, mirrored)))
    is_test = np.isin(keys[first], keys[edges.file[keep] == 1])
    return {"train": facts[~is_test], "test": facts[is_test]}


def _split_off_validation(graph: Graph, nodes: MatchedNodes, fraction: float, seed: int) -> Graph:
    """Turns the rows of some training heads into validation rows, and sets `heldout`."""
    train = graph.facts["train"]
    is_validation = np.zeros(len(train), bool)
    if fraction:
        train_graph = replace(graph, facts={"train": train})
        split = split_facts(
            train_graph, nodes.ids, "biobridge", seed, test=fraction, validation=0.0
        )
        is_validation = np.isin(train.head, split.heldout["test"])
    parts = (train[~is_validation], train[is_validation], graph.facts["test"])
    facts = dict(zip(SPLITS, parts, strict=True))
    return replace(graph, facts=facts, heldout={s: np.unique(facts[s].head) for s in SPLITS[1:]})
