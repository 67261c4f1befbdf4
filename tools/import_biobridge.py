"""Import a clone of the BioBridge reference repository, and its released checkpoint.

    python -m tools.import_biobridge --input BioBridge --output DATASET [--checkpoint WORKDIR]

The codes of types and relations become the dataset's ids, so that released weights fit; types and
relations without data keep their place. The split is the released one (directed rows, leaky).
Embeddings are read from data/embeddings/<name>/*.pkl, without running what a pickle may contain.

With --checkpoint the released weights become a run, for `python -m bridge_jax.evaluate --workdir`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import SPLITS, Manifest
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.splits import split_facts
from bridge_jax.errors import InputError, unknown

from .formats.biobridge import SPLIT, Clone, named_nodes, open_clone, read_triples
from .formats.edges import Builder, Edges
from .formats.safe_pickle import load
from .ingest.embeddings import Embeddings
from .ingest.node_matching import Nodes
from .ingest.write_dataset import (
    collapse_edges,
    count_rows,
    read_sources,
    report,
    write_dataset,
)

EMBEDDINGS = "esm2b_unimo_pubmedbert"
_PICKLES = {
    "protein": "gene/protein",
    "mf": "molecular_function",
    "cc": "cellular_component",
    "bp": "biological_process",
    "drug": "drug",
    "disease": "disease",
}
_SOURCES = [
    {
        "part": "nodes, triples, split and embeddings",
        "source": "BioBridge (RyanWangZf/BioBridge), from PrimeKG",
        "licence": "see the clone; PrimeKG's parts have their own, DrugBank's is non-commercial",
    }
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    clone, output = open_clone(Path(args.input)), Path(args.output)
    refuse_to_overwrite(output / "manifest.json", args.overwrite, "a dataset")
    if args.weights and not args.checkpoint:
        raise InputError("--weights names what to convert; --checkpoint must say where to")
    released = None
    if args.checkpoint:
        if any(Path(args.checkpoint).glob("*")):
            raise InputError(f"{args.checkpoint}: is not empty; choose another --checkpoint")
        from .biobridge.run import read_released, write_run

        released = read_released(Path(args.weights or Path(args.input) / "checkpoints"))
    manifest = import_clone(
        clone,
        Path(args.embeddings or clone.folder.parent / "embeddings" / EMBEDDINGS),
        output,
        args.name or output.resolve().name,
        args.validation_fraction,
        args.seed,
        read_sources(args.sources) or _SOURCES,
    )
    print(report(manifest))
    if released:
        write_run(released, output, Path(args.checkpoint))
        print(
            f"\n{released.file} as a run: python -m bridge_jax.evaluate --workdir {args.checkpoint}"
        )
    return 0


def import_clone(
    clone: Clone,
    embeddings: Path,
    output: Path,
    name: str,
    validation: float,
    seed: int,
    sources: Sequence[dict[str, str]],
) -> Manifest:
    """Write a clone's data as a dataset directory.

    Args:
      clone: the clone.
      embeddings: the folder of pickles.
      output: the dataset directory.
      name: the dataset's name.
      validation: the fraction of each type's nodes whose training rows become validation rows.
      seed: chooses them.
      sources: source and licence of each part.

    Returns:
      The manifest as written.

    Raises:
      InputError: something is missing, damaged or unsafe; an old dataset stays as it was.
    """
    types = _in_order(clone.types, "node_type")
    relations = _in_order(clone.relations, "relation_type")
    build = Builder()
    named = named_nodes(clone.folder, build)
    edges = read_triples(clone, list(SPLIT), named, build)
    nodes = _place(edges, types, read_pickles(embeddings, types), named)
    collapsed, rejects = collapse_edges(edges, nodes)
    counts = count_rows(edges, collapsed, rejects)
    rows = _split_rows(edges, nodes, relations)
    whole = Graph(types, nodes.counts, relations, rows, directed=True)
    graph = _hold_out(whole, nodes, validation, seed)
    for split in ("train", "test"):
        if not len(graph.facts[split]):
            raise InputError(f"{clone.folder}: no usable {split} row")
    about = {"rule": "biobridge", "seed": seed, "test": 0.1, "validation": validation}
    about["released"] = True
    findings = [*rejects, *edges.notices]
    return write_dataset(output, name, nodes, graph, about, counts, findings, sources)


def read_pickles(folder: Path, types: Sequence[str]) -> dict[str, Embeddings]:
    """Read the embeddings of a clone.

    Args:
      folder: holds `protein.pkl`, `mf.pkl`, `cc.pkl`, `bp.pkl`, `drug.pkl`, `disease.pkl`, or some
        of them.
      types: the node types of the graph.

    Returns:
      Node type to its embeddings; ids are PrimeKG's node indices.

    Raises:
      InputError: none is there, or one is unsafe, damaged or of an unknown type.
    """
    found = {}
    for path in sorted(folder.glob("*.pkl")):
        kind = _PICKLES.get(path.stem)
        if kind not in types:
            raise unknown("embedding file", path.stem, _PICKLES, "the names of the repository")
        value = load(path)
        if not isinstance(value, dict) or not {"node_index", "embedding"} <= set(value):
            raise InputError(f"{path}: must hold a dict with 'node_index' and 'embedding'")
        try:
            index, x = (np.asarray(value[k]) for k in ("node_index", "embedding"))
        except ValueError as e:
            raise InputError(f"{path}: vectors of different lengths: {e}") from e
        if index.dtype.kind not in "iu" or x.dtype.kind != "f" or x.shape[:1] != index.shape:
            raise InputError(
                f"{path}: node_index must be whole numbers and embedding as many vectors; they are "
                f"{index.dtype} {index.shape} and {x.dtype} {x.shape}"
            )
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        about = {"encoder": f"{folder.name}/{path.name}", "source": "BioBridge"}
        found[kind] = Embeddings([str(i) for i in index.tolist()], x, about, "node_index")
    if not found:
        raise InputError(f"{folder}: no embeddings; expected {', '.join(_PICKLES)} as .pkl")
    return found


def _in_order(names: Mapping[str, str], key: str) -> tuple[str, ...]:
    """The names of a vocabulary by code; released weights index their tables with the codes."""
    if set(names) != {str(i) for i in range(len(names))}:
        raise InputError(
            f"data_config.json: the codes of {key} must be 0 to {len(names) - 1}; they are "
            f"{', '.join(sorted(names))}"
        )
    return tuple(names[str(i)] for i in range(len(names)))


def _place(
    edges: Edges,
    types: tuple[str, ...],
    found: Mapping[str, Embeddings],
    named: Mapping[str, tuple[str, str]],
) -> Nodes:
    """The nodes with an embedding, in the order of the types; called by index where nameless."""
    tables, names, place, start = {}, {}, {}, 0
    for kind in (t for t in types if t in found):
        table = found[kind]
        called = {i: named.get(i, ("", "")) for i in table.ids}
        ids = [called[i][0] or i for i in table.ids]
        tables[kind] = replace(table, ids=ids)
        names |= {(kind, id_): name for id_, name in called.values() if name}
        place |= {(kind, i): start + k for k, i in enumerate(table.ids)}
        start += len(table.ids)
    of_edges = np.array([place.get((n.type, n.index), -1) for n in edges.nodes], np.int64)
    return Nodes(types, tables, names, of_edges)


def _split_rows(edges: Edges, nodes: Nodes, relations: Sequence[str]) -> dict[str, Facts]:
    """The directed rows as released, each once; a row of both files is a test row."""
    of_relation = np.array([relations.index(r) for r in edges.relations], np.int64)
    head, tail = nodes.of_edges[edges.head], nodes.of_edges[edges.tail]
    keep = (edges.head != edges.tail) & (head >= 0) & (tail >= 0)
    head, tail, relation = head[keep], tail[keep], of_relation[edges.relation[keep]]
    size = np.int64(sum(nodes.counts))
    keys = (relation * size + head) * size + tail
    _, first = np.unique(keys, return_index=True)
    first.sort()
    mirrored = np.isin((relation * size + tail) * size + head, keys)
    columns = (c[first].astype(np.int32) for c in (head, relation, tail, mirrored))
    rows = Facts(*columns)
    is_test = np.isin(keys[first], keys[edges.file[keep] == 1])
    return {"train": rows[~is_test], "test": rows[is_test]}


def _hold_out(graph: Graph, nodes: Nodes, fraction: float, seed: int) -> Graph:
    """Name the held-out heads, after turning some training heads into validation heads."""
    train = graph.facts["train"]
    taken = np.zeros(len(train), bool)
    if fraction:
        alone = replace(graph, facts={"train": train})
        cut = split_facts(alone, nodes.ids, "biobridge", seed, test=fraction, validation=0.0)
        taken = np.isin(train.head, cut.heldout["test"])
    facts = dict(zip(SPLITS, (train[~taken], train[taken], graph.facts["test"]), strict=True))
    heldout = {s: np.unique(facts[s].head) for s in SPLITS[1:]}
    return replace(graph, facts=facts, heldout=heldout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.import_biobridge", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    read.add_argument("--input", required=True, help="a clone, after `git lfs pull`")
    write.add_argument("--output", required=True, help="the dataset directory to write")
    read.add_argument(
        "--embeddings", help=f"folder of pickles; default: data/embeddings/{EMBEDDINGS}"
    )
    write.add_argument("--checkpoint", metavar="WORKDIR", help="the run to make of the weights")
    read.add_argument(
        "--weights",
        metavar="PATH",
        help="pytorch_model.bin, .safetensors or .npz beside its model_config.json, or their "
        "folder; default: the only one under checkpoints/ of the clone",
    )
    how.add_argument(
        "--validation-fraction",
        type=float,
        default=0.0,
        help="take validation rows from the training rows, which the release does not; needed to "
        "train; default: 0",
    )
    how.add_argument("--seed", type=int, default=0, help="of the validation rows; default: 0")
    write.add_argument("--name", help="the dataset's name; default: the folder's")
    read.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    write.add_argument("--overwrite", action="store_true", help="replace a dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
