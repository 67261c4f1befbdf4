"""Import a knowledge graph and frozen embeddings into a dataset directory.

    python -m tools.import_graph --format primekg --input kg.csv.gz --features FOLDER \
        --embeddings FOLDER --output DATASET --split inductive --seed 0

Rows are collapsed to undirected facts, split, audited and counted. A row that cannot be used goes
to `rejects.tsv` with its reason; rows in = facts + mirrored + duplicates + rejects.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax import cli
from bridge_jax.dataset import (
    SPLITS,
    Manifest,
    file_name,
    write_blocks,
    write_manifest,
    write_nodes,
)
from bridge_jax.errors import InputError
from bridge_jax.graph import Facts, Graph
from bridge_jax.leaks import Leak, audit
from bridge_jax.records import atomic_file, heldout_layout, triple_layout
from bridge_jax.splits import RULES, Collapsed, collapse, split_facts
from tools.embeddings_in import Embeddings, matches, read_folder
from tools.features_in import read_features
from tools.formats import FORMATS
from tools.formats.edges import Edges, Node, Reject


@dataclass(frozen=True)
class Nodes:
    """The nodes a dataset will hold: those with an embedding, type by type.

    Attributes:
      types: node types, sorted.
      tables: embeddings by type; ids are the graph's own.
      names: name by (type, id).
      of_edges: for each node that the edges name its global id, or -1.
    """

    types: tuple[str, ...]
    tables: dict[str, Embeddings]
    names: dict[tuple[str, str], str]
    of_edges: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    if (output / "manifest.json").exists() and not args.overwrite:
        raise InputError(f"{output}: holds a dataset already; pass --overwrite to replace it")
    edges = FORMATS[args.format](Path(args.input))
    nodes = gather_nodes(edges, read_folder(Path(args.embeddings or output)), args.features)
    sources = json.loads(Path(args.sources).read_text()) if args.sources else []
    fractions = {"test": args.test_fraction, "validation": args.validation_fraction}
    manifest = build(
        edges, nodes, output, args.name or output.name, args.split, args.seed, fractions, sources
    )
    print(report(manifest))
    return 0


def gather_nodes(edges: Edges, found: Mapping[str, Embeddings], features: str | None) -> Nodes:
    """Match embeddings to the edges' nodes.

    Args:
      edges: the source's edges.
      found: embeddings by file stem.
      features: a folder of feature tables that name nodes without an edge, or None.

    Raises:
      InputError: no file fits a node type, or none of a file's ids is a node.
    """
    by_type = {kind: {} for kind in sorted({n.type for n in edges.nodes})}  # type: dict[str, dict[tuple[str, str], Node]]
    for node in edges.nodes:
        by_type[node.type][("node_id", node.id)] = node
        by_type[node.type][("node_index", node.index)] = node
    tables: dict[str, Embeddings] = {}
    for stem, table in found.items():
        kinds = [k for k in by_type if matches(stem, k)]
        if not kinds:
            raise InputError(
                f"embeddings {stem!r} fit no node type of the graph; it has: {', '.join(by_type)}"
            )
        known = by_type[kinds[0]]
        ids = [known[key].id if (key := (table.id_column, i)) in known else i for i in table.ids]
        if not any(("node_id", i) in known for i in ids):
            raise InputError(
                f"none of the {len(ids)} ids of embeddings {stem!r} is a {kinds[0]} of the graph"
            )
        tables[kinds[0]] = Embeddings(ids, table.x, table.about)
    start, place = 0, {}
    for kind in sorted(tables):
        place |= {(kind, i): start + k for k, i in enumerate(tables[kind].ids)}
        start += len(tables[kind].ids)
    of_edges = np.array([place.get((n.type, n.id), -1) for n in edges.nodes], np.int64)
    return Nodes(tuple(sorted(tables)), tables, _names(edges, by_type, features), of_edges)


def _names(
    edges: Edges, by_type: Mapping[str, Mapping[tuple[str, str], Node]], folder: str | None
) -> dict[tuple[str, str], str]:
    names: dict[tuple[str, str], str] = {}
    for path in sorted(Path(folder).glob("*.csv*")) if folder else []:
        for kind in (k for k in by_type if matches(path.name.split(".")[0], k)):
            names |= {(kind, f.id): f.name for f in read_features(path)}
    return names | {(n.type, n.id): n.name for n in edges.nodes}


def build(
    edges: Edges,
    nodes: Nodes,
    output: Path,
    name: str,
    rule: str,
    seed: int,
    fractions: Mapping[str, float],
    sources: Sequence[dict[str, str]],
) -> Manifest:
    """Collapse, split, audit and write a dataset.

    Args:
      edges: the source's edges.
      nodes: the nodes to keep.
      output: the dataset directory.
      name: the dataset's name.
      rule: a split rule of `bridge_jax.splits`.
      seed: of the split.
      fractions: `test` and `validation`.
      sources: source and licence of each part.

    Returns:
      The manifest as written; the last file of the dataset to appear.
    """
    (output / "manifest.json").unlink(missing_ok=True)  # never a manifest beside other shards
    collapsed, rejects = _collapse(edges, nodes)
    if not len(collapsed.facts):
        raise InputError(
            f"no usable fact in {len(edges.row)} rows; see the reasons: {_reasons(rejects)}"
        )
    used = np.unique(collapsed.facts.relation)
    relations = sorted(edges.relations[i] for i in used)
    new_id = np.array([relations.index(r) if r in relations else -1 for r in edges.relations])
    old = collapsed.facts
    facts = Facts(old.head, new_id[old.relation].astype(np.int32), old.tail, old.mirrored)
    counts = tuple(len(nodes.tables[t].ids) for t in nodes.types)
    whole = Graph(nodes.types, counts, tuple(relations), {"train": facts})
    ids = [nodes.tables[t].ids for t in nodes.types]
    graph = split_facts(whole, ids, rule, seed, **fractions)
    leaks = {s: audit(graph, s) for s in SPLITS[1:]}

    tables = []
    for kind in nodes.types:
        table = nodes.tables[kind]
        _write_names(output, kind, table.ids, nodes.names)
        tables.append(write_nodes(output, kind, table.ids, table.x, **table.about))
    triples = {s: _write_facts(output, s, f) for s, f in graph.facts.items()}
    heldout = {
        s: write_blocks(output, "heldout", s, heldout_layout(), {"node": n})
        for s, n in graph.heldout.items()
    }
    _write_rejects(output / "rejects.tsv", rejects)
    manifest = Manifest(
        name=name,
        node_types=tuple(tables),
        relations=tuple(relations),
        triple_types=_count_kinds(graph),
        triples=triples,
        heldout=heldout,
        split={
            "rule": rule,
            "seed": seed,
            **fractions,
            "directed": graph.directed,
            "clean": all(leak.clean for leak in leaks.values()),
            "leaks": {s: vars(leak) for s, leak in leaks.items()},
        },
        counts={
            "rows": len(edges.row) + len(edges.rejects),
            "facts": len(facts),
            "mirrored": collapsed.mirrored,
            "duplicates": collapsed.duplicates,
            "rejects": len(rejects),
            **{f"rejects: {k}": v for k, v in sorted(Counter(r.reason for r in rejects).items())},
        },
        sources=tuple(sources),
    )
    write_manifest(output, manifest)
    return manifest


def _collapse(edges: Edges, nodes: Nodes) -> tuple[Collapsed, list[Reject]]:
    head, tail = (nodes.of_edges[c] for c in (edges.head, edges.tail))
    loop = edges.head == edges.tail
    missing = ((head < 0) | (tail < 0)) & ~loop
    rejects = list(edges.rejects)
    for rows, reason in ((loop, "self-loop"), (missing, "a node without an embedding")):
        for i in np.flatnonzero(rows).tolist():
            h, t = edges.nodes[edges.head[i]], edges.nodes[edges.tail[i]]
            text = f"{h.type}::{h.id},{edges.relations[edges.relation[i]]},{t.type}::{t.id}"
            rejects.append(Reject(int(edges.row[i]), reason, text))
    keep = ~(loop | missing)
    types_of = np.repeat(
        np.arange(len(nodes.types)), [len(nodes.tables[t].ids) for t in nodes.types]
    )
    return collapse(head[keep], edges.relation[keep], tail[keep], types_of), rejects


def _reasons(rejects: Sequence[Reject]) -> str:
    return ", ".join(f"{n} × {r}" for r, n in Counter(r.reason for r in rejects).most_common())


def _write_facts(output: Path, split: str, facts: Facts) -> Any:
    return write_blocks(output, "triples", split, triple_layout(), vars(facts))


def _write_names(
    output: Path, kind: str, ids: Sequence[str], names: Mapping[tuple[str, str], str]
) -> None:
    with atomic_file(output / f"nodes/{file_name(kind)}.tsv") as path:
        lines = [f"{i}\t{' '.join(names.get((kind, i), i).split())}\n" for i in ids]
        path.write_text("id\tname\n" + "".join(lines))


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    with atomic_file(path) as temporary, open(temporary, "w") as handle:
        handle.write("row\treason\ttext\n")
        handle.writelines(
            f"{r.row}\t{r.reason}\t{' '.join(r.text.split())}\n" for r in sorted(rejects)
        )


def _count_kinds(graph: Graph) -> tuple[dict[str, Any], ...]:
    counts = {s: {k: len(p.heads) for k, p in graph.pairs([s]).items()} for s in SPLITS}
    return tuple(k._asdict() | {s: counts[s][k] for s in SPLITS} for k in graph.triple_types)


def report(manifest: Manifest) -> str:
    """The counts of an import as text: nodes, directed triples, rows, and the audit."""
    nodes = [[t.name, t.count, t.dim, t.dtype, t.encoder] for t in manifest.node_types]
    kinds = [
        [k["head"], k["relation"], k["tail"], *(k[s] for s in SPLITS)]
        for k in manifest.triple_types
    ]
    leaks = [[s, *leak.values()] for s, leak in manifest.split["leaks"].items()]
    verdict = "clean" if manifest.split["clean"] else "LEAKY: training gives test queries away"
    return "\n\n".join(
        [
            cli.table(nodes, ("node type", "nodes", "dim", "dtype", "encoder")),
            cli.table(kinds, ("head", "relation", "tail", *SPLITS)) + "\n(directed triples)",
            cli.table(list(manifest.counts.items()), ("rows", "count")),
            cli.table(leaks, ("audit", *(f.name.replace("_", " ") for f in fields(Leak))))
            + f"\nsplit {manifest.split['rule']}, seed {manifest.split['seed']}: {verdict}",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--format", choices=list(FORMATS), required=True, help="layout of the input"
    )
    parser.add_argument("--input", required=True, help="the edge file, plain or gzipped")
    parser.add_argument("--features", help="folder of node feature tables, for names")
    parser.add_argument(
        "--embeddings",
        help="folder of <type>.npz (ids, x), <type>.npy + <type>.ids.txt, <type>.parquet, or of "
        "exported shards; default: the shards already in --output",
    )
    parser.add_argument("--output", required=True, help="the dataset directory to write")
    parser.add_argument("--name", help="the dataset's name; default: the folder's")
    parser.add_argument("--split", choices=RULES, default="inductive", help="default: inductive")
    parser.add_argument("--seed", type=int, default=0, help="of the split; default: 0")
    parser.add_argument("--test-fraction", type=float, default=0.10, help="default: 0.10")
    parser.add_argument("--validation-fraction", type=float, default=0.05, help="default: 0.05")
    parser.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
