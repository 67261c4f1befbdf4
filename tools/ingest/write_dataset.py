"""Collapses source edges to facts, splits and audits them, and writes the dataset directory."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import check_nodes, write_columns, write_nodes
from bridge_jax.data.files import atomic_file
from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.leakage import LeakageReport, audit
from bridge_jax.data.manifest import (
    SPLITS,
    Manifest,
    NodeTable,
    SynonymFile,
    file_name,
    write_manifest,
)
from bridge_jax.data.similarity import SimilarityPairs, write_similarity
from bridge_jax.data.splits import CollapsedEdges, collapse, split_facts
from bridge_jax.data.synonyms import write_synonyms
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

from ..formats.delimited import Finding
from ..formats.edges import Edges, label
from .node_matching import MatchedNodes, NodeGroups
from .replace_dataset import REJECTS, staged_dataset
from .similarity import MatchedPairs
from .source_notices import (
    directed_relation_ids,
    first_cause,
    groups_too_large,
    joined_directions,
    led_by_first_cause,
    summarise,
    untrained_tasks,
)
from .tfds import write_tfds


@dataclass(frozen=True)
class SplitOptions:
    """How facts are split into training, validation and test facts.

    Attributes:
      rule: Split rule, one of `bridge_jax.data.splits.SPLIT_RULES`; default: inductive.
      seed: Random seed; default: 0.
      test: Fraction of the nodes or facts for the test split; default: 0.1.
      validation: Fraction for the validation split; default: 0.05.
      hold_out: Triple types or node types that the rule holds out.
      groups: Groups of nodes that are held out together; default: none.
      directed: Relations whose facts within one node type are directed; default: none.
    """

    rule: str = "inductive"
    seed: int = 0
    test: float = 0.10
    validation: float = 0.05
    hold_out: Sequence[str] = ()
    groups: NodeGroups | None = None
    directed: Sequence[str] = ()

    def describe(self) -> dict[str, Any]:
        """Returns the options as the manifest's entry `split`."""
        entry: dict[str, Any] = {
            "rule": self.rule, "seed": self.seed, "test": self.test, "validation": self.validation
        }  # fmt: skip
        if self.hold_out:
            entry["hold_out"] = list(self.hold_out)
        if self.groups:
            entry["group_column"] = self.groups.column
        if self.directed:
            entry["directed_relations"] = list(self.directed)
        return entry


def build_dataset(
    edges: Edges,
    nodes: MatchedNodes,
    output: Path,
    name: str,
    split: SplitOptions,
    sources: Sequence[dict[str, str]],
    strict: bool = False,
    similarity: Mapping[str, MatchedPairs] | None = None,
) -> Manifest:
    """Collapses, splits, audits and writes a dataset.

    Args:
      edges: Edges of the source; its notices receive those about relations, groups and files.
      nodes: Nodes to keep.
      output: Dataset directory; if an error is raised, a dataset in it stays unchanged.
      name: Name of the dataset.
      split: How to split the facts.
      sources: Source and licence of each part, for the manifest.
      strict: Whether a reject or a notice is an error; default: False.
      similarity: Similar nodes by node type; default: none.

    Returns:
      The manifest.

    Raises:
      InputError: There is no usable fact, an embedding is not finite or all zero, the split is
        impossible, or `strict` is violated.
    """
    directed = directed_relation_ids(edges, split.directed)
    collapsed, rejects = collapse_edges(edges, nodes, directed)
    similarity = similarity or {}
    edges.notices += [*nodes.notices, *(f for s in similarity.values() for f in s.notices)]
    if split.groups:
        shares = {"test": split.test, "validation": split.validation}
        edges.notices += groups_too_large(split.groups, nodes.types, shares)
    if strict and (rejects or edges.notices):
        raise InputError(f"--strict: {summarise([*rejects, *edges.notices])}")
    if not len(collapsed.facts):
        cause = first_cause(rejects, edges.num_rows)
        raise InputError(f"no usable fact in {edges.num_rows} rows: {cause}")
    with led_by_first_cause(rejects, edges.num_rows):
        graph = split_facts(
            _unsplit_graph(edges, nodes, collapsed, split.directed),
            nodes.ids,
            split.rule,
            split.seed,
            split.test,
            split.validation,
            hold_out=split.hold_out,
            groups=split.groups.by_type if split.groups else None,
        )
    edges.notices += joined_directions(edges, nodes, collapsed)
    edges.notices += untrained_tasks(graph, split.hold_out)
    counts = count_rows(edges, collapsed, rejects) | dict(nodes.unmatched)
    for matched in similarity.values():
        counts |= matched.manifest_counts()
    pairs = {node_type: matched.pairs for node_type, matched in similarity.items()}
    findings = [*rejects, *edges.notices]
    return write_dataset(
        output, name, nodes, graph, split.describe(), counts, findings, sources, pairs
    )


def write_dataset(
    output: Path,
    name: str,
    nodes: MatchedNodes,
    graph: Graph,
    split: Mapping[str, Any],
    counts: dict[str, int],
    findings: Sequence[Finding],
    sources: Sequence[dict[str, str]],
    similarity: Mapping[str, SimilarityPairs] | None = None,
) -> Manifest:
    """Audits a split graph and writes it as a dataset, replacing one that is already there.

    Args:
      output: Dataset directory.
      name: Name of the dataset.
      nodes: Nodes of the graph's types, in its order; a type without embeddings has no nodes.
      graph: The split graph.
      split: How it was split; at least `rule` and `seed`.
      counts: Numbers of source rows, from `count_rows`.
      findings: Rejects and notices of the source.
      sources: Source and licence of each part.
      similarity: Similar nodes by node type; default: none.

    Returns:
      The manifest.

    Raises:
      InputError: An embedding is not finite or all zero, another process writes to the directory,
        or a file in it is in the way; a dataset that is already there stays unchanged.
      DiskFullError: The disk is full; a dataset that is already there stays unchanged.
    """
    for node_type, embeddings in nodes.tables.items():
        check_nodes(node_type, embeddings.ids, embeddings.x)
    leakage = {s: audit(graph, s) for s in SPLITS[1:]}
    leakage_entries = {
        "directed": graph.directed,
        "clean": all(report.has_no_leakage for report in leakage.values()),
        "leaks": {s: asdict(report) for s, report in leakage.items()},
    }
    with staged_dataset(output) as root:
        manifest = Manifest(
            name=name,
            node_types=_write_node_tables(root, nodes),
            relations=graph.relations,
            triple_types=_count_triples(graph),
            triples={
                s: write_columns(root, "triples", s, triple_layout(), vars(f))
                for s, f in graph.facts.items()
            },
            heldout={
                s: write_columns(root, "heldout", s, heldout_layout(), {"node": n})
                for s, n in graph.heldout.items()
            },
            split={**split, **leakage_entries},
            counts=counts,
            sources=tuple(sources),
            similarity={
                t: write_similarity(root, t, pairs) for t, pairs in (similarity or {}).items()
            },
            synonyms=_write_synonyms(root, nodes),
            names=_write_names(root, nodes),
        )
        _write_rejects(root / REJECTS, findings)
        write_tfds(root, manifest)
        write_manifest(root, manifest)
    return manifest


def collapse_edges(
    edges: Edges, nodes: MatchedNodes, directed: Sequence[int] = ()
) -> tuple[CollapsedEdges, list[Finding]]:
    """Collapses edges to facts; self-loops and edges to nodes without an embedding are rejects.

    Args:
      edges: Edges of the source.
      nodes: Nodes to keep.
      directed: Indices of relations whose facts within one node type are directed.

    Returns:
      The facts, and all rejects of the source; one reject stands for all edges of a node without an
      embedding, or of a node type without embeddings.
    """
    head, tail = (nodes.global_ids[c] for c in (edges.head, edges.tail))
    is_loop = edges.head == edges.tail
    loops = [edges.finding(i, "self-loop") for i in np.flatnonzero(is_loop).tolist()]
    missing = np.where(head < 0, edges.head, np.where(tail < 0, edges.tail, -1))
    missing[is_loop] = -1
    keep = ~is_loop & (missing < 0)
    types_of = np.repeat(np.arange(len(nodes.types)), nodes.counts)
    collapsed = collapse(head[keep], edges.relation[keep], tail[keep], types_of, directed)
    return collapsed, [*edges.rejects, *loops, *_without_embedding(edges, nodes, missing)]


def _without_embedding(edges: Edges, nodes: MatchedNodes, missing: np.ndarray) -> list[Finding]:
    """Returns one reject per node, or per node type without embeddings: rows may be millions.

    Args:
      edges: Edges of the source.
      nodes: Nodes with an embedding.
      missing: `[edges]` index of a node without an embedding, or -1.
    """
    rejects: dict[str, Finding] = {}
    rows = np.flatnonzero(missing >= 0)
    used, first, counts = np.unique(missing[rows], return_index=True, return_counts=True)
    for code, edge, count in zip(used.tolist(), rows[first].tolist(), counts.tolist(), strict=True):
        node = edges.nodes[code]
        if node.type in nodes.tables:
            reason, text = f"no embedding of this {node.type}", label(node)
        else:
            reason, text = f"no embeddings of type {node.type}", f"every {node.type}"
        reject = edges.finding(edge, reason, text, count)
        earlier = rejects.get(text, reject._replace(num_rows=0))
        rejects[text] = min(earlier, reject)._replace(num_rows=earlier.num_rows + count)
    return list(rejects.values())


def count_rows(
    edges: Edges, collapsed: CollapsedEdges, rejects: Sequence[Finding]
) -> dict[str, int]:
    """Counts the rows of a source by their result, and rejects and notices by their reason.

    Returns:
      The manifest's entry `counts`; rows = facts + mirrored + duplicates + rejects.
    """
    counts = {
        "rows": edges.num_rows,
        "facts": len(collapsed.facts),
        "mirrored": collapsed.mirrored,
        "duplicates": collapsed.duplicates,
        "rejects": sum(f.num_rows for f in rejects),
    }
    rejects_by_reason: Counter[str] = Counter()
    notices_by_reason = Counter(f.reason for f in edges.notices)
    for reject in rejects:
        rejects_by_reason[reject.reason] += reject.num_rows
    counts |= {f"rejects: {k}": v for k, v in sorted(rejects_by_reason.items())}
    return counts | {f"notices: {k}": v for k, v in sorted(notices_by_reason.items())}


def _unsplit_graph(
    edges: Edges, nodes: MatchedNodes, collapsed: CollapsedEdges, directed: Sequence[str]
) -> Graph:
    """Returns a graph with all facts under `train`; used relations are in alphabetical order."""
    facts = collapsed.facts
    relations = sorted(edges.relations[i] for i in np.unique(facts.relation))
    id_of = {r: i for i, r in enumerate(relations)}
    new_id = np.array([id_of.get(r, -1) for r in edges.relations], np.int32)
    facts = Facts(facts.head, new_id[facts.relation], facts.tail, facts.mirrored)
    return Graph(
        nodes.types,
        nodes.counts,
        tuple(relations),
        {"train": facts},
        directed_relations=tuple(r for r in relations if r in directed),
    )


def _write_node_tables(output: Path, nodes: MatchedNodes) -> tuple[NodeTable, ...]:
    tables = []
    for node_type, ids in zip(nodes.types, nodes.ids, strict=True):
        if ids:
            table = nodes.tables[node_type]
            tables.append(write_nodes(output, node_type, ids, table.x, **table.metadata))
        else:
            tables.append(NodeTable(node_type, 0, "float32", 0, 0, ()))
    return tuple(tables)


def _write_names(output: Path, nodes: MatchedNodes) -> dict[str, str]:
    """Writes the tables of names, and returns their SHA-256 by node type."""
    digests = {}
    for node_type, ids in zip(nodes.types, nodes.ids, strict=True):
        names = (" ".join(nodes.names.get((node_type, i), i).split()) for i in ids)
        lines = (f"{i}\t{name}\n" for i, name in zip(ids, names, strict=True))
        raw = ("id\tname\n" + "".join(lines)).encode()
        with atomic_file(output / f"nodes/{file_name(node_type)}.tsv") as path:
            path.write_bytes(raw)
        digests[node_type] = hashlib.sha256(raw).hexdigest()
    return digests


def _write_synonyms(output: Path, nodes: MatchedNodes) -> dict[str, SynonymFile]:
    entries = {}
    for node_type, ids in zip(nodes.types, nodes.ids, strict=True):
        synonyms = {i: nodes.synonyms.get((node_type, i), ()) for i in ids}
        if entry := write_synonyms(output, node_type, synonyms):
            entries[node_type] = entry
    return entries


def _write_rejects(path: Path, findings: Sequence[Finding]) -> None:
    """Writes `rejects.tsv`; its column `rows` sums to the manifest's count of rejects."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.write("file\trow\trows\treason\ttext\n")
        handle.writelines(
            f"{f.file}\t{f.row}\t{f.num_rows}\t{' '.join(f.reason.split())}\t"
            f"{' '.join(f.text.split())}\n"
            for f in sorted(findings)
        )


def _count_triples(graph: Graph) -> tuple[dict[str, Any], ...]:
    """Returns the manifest's entry `triple_types`: directed triples of each type, by split."""
    counts = {s: {t: len(p.heads) for t, p in graph.pairs([s]).items()} for s in SPLITS}
    return tuple(t._asdict() | {s: counts[s][t] for s in SPLITS} for t in graph.triple_types)


def read_sources(file: str | None) -> list[dict[str, str]]:
    """Reads the JSON file of `--sources`.

    Returns:
      One object per part of the data; empty without a file.

    Raises:
      InputError: The file is not a JSON list of objects.
    """
    if not file:
        return []
    try:
        value = json.loads(Path(file).read_bytes())
    except ValueError as e:
        raise InputError(f"{file}: cannot be read: {e}") from e
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise InputError(f"{file}: must be a JSON list of {{part, source, licence}}")
    return value


def format_report(manifest: Manifest) -> str:
    """Formats the counts of nodes, directed triples and source rows, and the leakage audit."""
    nodes = [[t.name, t.count, t.dim, t.dtype, t.encoder] for t in manifest.node_types]
    triple_types = [
        [t["head"], t["relation"], t["tail"], *(t[s] for s in SPLITS)]
        for t in manifest.triple_types
    ]
    leakage = [[s, *counts.values()] for s, counts in manifest.split["leaks"].items()]
    leakage_names = (f.name.replace("_", " ") for f in fields(LeakageReport))
    verdict = (
        "clean"
        if manifest.split["clean"]
        else "LEAKY: training reveals rows of the other splits; see tools.audit"
    )
    return "\n\n".join(
        [
            text_table(nodes, ("node type", "nodes", "dim", "dtype", "encoder")),
            text_table(triple_types, ("head", "relation", "tail", *SPLITS))
            + "\n(directed triples)",
            text_table(list(manifest.counts.items()), ("source rows", "count")),
            text_table(leakage, ("leakage", *leakage_names))
            + f"\nsplit {manifest.split['rule']}, seed {manifest.split['seed']}: {verdict}",
        ]
    )
