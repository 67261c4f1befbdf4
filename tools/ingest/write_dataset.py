"""TODO"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import (
    SPLITS,
    Manifest,
    NodeTable,
    check_nodes,
    file_name,
    read_manifest,
    write_blocks,
    write_manifest,
    write_nodes,
)
from bridge_jax.data.files import atomic_file
from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.leakage import LeakageReport, audit
from bridge_jax.data.splits import Collapsed, collapse, split_facts
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

from ..formats.edges import Edges, Finding, words
from .node_matching import Groups, Nodes
from .tfds import write_tfds


def build(
    edges: Edges,
    nodes: Nodes,
    output: Path,
    name: str,
    rule: str,
    seed: int,
    fractions: Mapping[str, float],
    sources: Sequence[dict[str, str]],
    hold_out: Sequence[str] = (),
    groups: Groups | None = None,
    strict: bool = False,
) -> Manifest:
    """Collapse, split, audit and write a dataset; bad input leaves an old one as it was.

    Args:
      edges: the source's edges.
      nodes: the nodes to keep.
      output: the dataset directory.
      name: the dataset's name.
      rule: a split rule of `bridge_jax.data.splits`.
      seed: of the split.
      fractions: `test` and `validation`.
      sources: source and licence of each part.
      hold_out: the triple types or node types that the rule holds out.
      groups: the group of each node, where groups are held out together.
      strict: refuse a source with any reject or notice.

    Returns:
      The manifest as written; the last file of the dataset to appear.

    Raises:
      InputError: nothing usable, embeddings that are not sound, an impossible split, or `strict`.
    """
    collapsed, rejects = collapse_edges(edges, nodes)
    counts = count_rows(edges, collapsed, rejects)
    if strict and (rejects or edges.notices):
        raise InputError(f"--strict: {_reasons([*rejects, *edges.notices])}")
    if not len(collapsed.facts):
        raise InputError(f"no usable fact in {edges.rows} rows: {_reasons(rejects)}")
    whole = _graph(edges, nodes, collapsed)
    of_group = groups.of_nodes if groups else None
    graph = split_facts(
        whole, nodes.ids, rule, seed, **fractions, hold_out=hold_out, groups=of_group
    )
    split: dict[str, Any] = {"rule": rule, "seed": seed, **fractions}
    if hold_out:
        split["hold_out"] = list(hold_out)
    if groups:
        split["group_column"] = groups.column
    return write_dataset(
        output, name, nodes, graph, split, counts, [*rejects, *edges.notices], sources
    )


def write_dataset(
    output: Path,
    name: str,
    nodes: Nodes,
    graph: Graph,
    split: Mapping[str, Any],
    counts: dict[str, int],
    findings: Sequence[Finding],
    sources: Sequence[dict[str, str]],
) -> Manifest:
    """Audit a split graph and write it, in place of a dataset that may stand there.

    Args:
      output: the dataset directory.
      name: the dataset's name.
      nodes: of the graph's types, in its order; a type without embeddings has no nodes.
      graph: the split graph.
      split: how it was split: at least `rule` and `seed`.
      counts: of the source's rows.
      findings: what was odd in the source.
      sources: source and licence of each part.

    Returns:
      The manifest as written; the last file of the dataset to appear.

    Raises:
      InputError: embeddings that are not sound; an old dataset stays as it was.
    """
    for kind, table in nodes.tables.items():
        check_nodes(kind, table.ids, table.x)
    leaks = {s: audit(graph, s) for s in SPLITS[1:]}
    superseded = _listed_files(output)
    (output / "manifest.json").unlink(missing_ok=True)  # never a manifest beside other shards
    tables = []
    for kind, ids in zip(nodes.types, nodes.ids, strict=True):
        _write_names(output, kind, ids, nodes.names)
        if ids:
            table = nodes.tables[kind]
            tables.append(write_nodes(output, kind, ids, table.x, **table.about))
        else:
            tables.append(NodeTable(kind, 0, "float32", 0, 0, ()))
    triples = {
        s: write_blocks(output, "triples", s, triple_layout(), vars(f))
        for s, f in graph.facts.items()
    }
    heldout = {
        s: write_blocks(output, "heldout", s, heldout_layout(), {"node": n})
        for s, n in graph.heldout.items()
    }
    _write_rejects(output / "rejects.tsv", findings)
    about = {
        "directed": graph.directed,
        "clean": all(leak.clean for leak in leaks.values()),
        "leaks": {s: vars(leak) for s, leak in leaks.items()},
    }
    manifest = Manifest(
        name=name,
        node_types=tuple(tables),
        relations=graph.relations,
        triple_types=_count_kinds(graph),
        triples=triples,
        heldout=heldout,
        split={**split, **about},
        counts=counts,
        sources=tuple(sources),
    )
    write_tfds(output, manifest)
    write_manifest(output, manifest)
    for file in superseded - manifest.files():
        (output / file).unlink(missing_ok=True)
    return manifest


def collapse_edges(edges: Edges, nodes: Nodes) -> tuple[Collapsed, list[Finding]]:
    """Collapse edges to facts, without self-loops and edges to nodes that have no embedding.

    Returns:
      The facts, and a finding for each edge (or each node) that cannot be used.
    """
    head, tail = (nodes.of_edges[c] for c in (edges.head, edges.tail))
    loop = edges.head == edges.tail
    loops = [edges.finding(i, "self-loop") for i in np.flatnonzero(loop).tolist()]
    without = np.where(head < 0, edges.head, np.where(tail < 0, edges.tail, -1))
    without[loop] = -1
    keep = ~loop & (without < 0)
    types_of = np.repeat(np.arange(len(nodes.types)), nodes.counts)
    collapsed = collapse(head[keep], edges.relation[keep], tail[keep], types_of)
    return collapsed, [*edges.rejects, *loops, *_without_embedding(edges, nodes, without)]


def _without_embedding(edges: Edges, nodes: Nodes, without: np.ndarray) -> list[Finding]:
    """One finding a node, or one for a node type that has no embeddings: rows may be millions."""
    lost: dict[str, Finding] = {}
    rows = np.flatnonzero(without >= 0)
    used, first, counts = np.unique(without[rows], return_index=True, return_counts=True)
    for code, edge, count in zip(used.tolist(), rows[first].tolist(), counts.tolist(), strict=True):
        node = edges.nodes[code]
        if node.type in nodes.tables:
            reason, text = f"no embedding of this {node.type}", words(node)
        else:
            reason, text = f"no embeddings of type {node.type}", f"every {node.type}"
        finding = edges.finding(edge, reason, text, count)
        known = lost.get(text, finding._replace(rows=0))
        lost[text] = min(known, finding)._replace(rows=known.rows + count)
    return list(lost.values())


def count_rows(edges: Edges, collapsed: Collapsed, rejects: Sequence[Finding]) -> dict[str, int]:
    """What became of a source's rows: `rows = facts + mirrored + duplicates + rejects`."""
    counts = {
        "rows": edges.rows,
        "facts": len(collapsed.facts),
        "mirrored": collapsed.mirrored,
        "duplicates": collapsed.duplicates,
        "rejects": sum(f.rows for f in rejects),
    }
    rejected: Counter[str] = Counter()
    noticed = Counter(f.reason for f in edges.notices)
    for finding in rejects:
        rejected[finding.reason] += finding.rows
    counts |= {f"rejects: {k}": v for k, v in sorted(rejected.items())}
    return counts | {f"notices: {k}": v for k, v in sorted(noticed.items())}


def _reasons(findings: Iterable[Finding]) -> str:
    count: Counter[str] = Counter()
    where: dict[str, str] = {}
    for f in findings:
        count[f.reason] += max(f.rows, 1)
        where.setdefault(f.reason, f"{f.file} row {f.row}")
    return "; ".join(f"{n} × {r} (first: {where[r]})" for r, n in count.most_common())


def _graph(edges: Edges, nodes: Nodes, collapsed: Collapsed) -> Graph:
    """All facts under `train`, with the relations that they use in alphabetical order."""
    old = collapsed.facts
    relations = sorted(edges.relations[i] for i in np.unique(old.relation))
    place = {r: i for i, r in enumerate(relations)}
    new_id = np.array([place.get(r, -1) for r in edges.relations], np.int32)
    facts = Facts(old.head, new_id[old.relation], old.tail, old.mirrored)
    return Graph(nodes.types, nodes.counts, tuple(relations), {"train": facts})


def _listed_files(output: Path) -> set[str]:
    """The shards of the dataset that is about to be replaced."""
    try:
        return read_manifest(output).files()
    except InputError:
        return set()


def _write_names(
    output: Path, kind: str, ids: Sequence[str], names: Mapping[tuple[str, str], str]
) -> None:
    with atomic_file(output / f"nodes/{file_name(kind)}.tsv") as path:
        lines = [f"{i}\t{' '.join(names.get((kind, i), i).split())}\n" for i in ids]
        path.write_text("id\tname\n" + "".join(lines), encoding="utf-8")


def _write_rejects(path: Path, findings: Sequence[Finding]) -> None:
    """`rows` is how many edge rows a line stands for: they sum to the manifest's rejects."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.write("file\trow\trows\treason\ttext\n")
        handle.writelines(
            f"{f.file}\t{f.row}\t{f.rows}\t{' '.join(f.reason.split())}\t"
            f"{' '.join(f.text.split())}\n"
            for f in sorted(findings)
        )


def _count_kinds(graph: Graph) -> tuple[dict[str, Any], ...]:
    counts = {s: {k: len(p.heads) for k, p in graph.pairs([s]).items()} for s in SPLITS}
    return tuple(k._asdict() | {s: counts[s][k] for s in SPLITS} for k in graph.triple_types)


def read_sources(file: str | None) -> list[dict[str, str]]:
    """Read what `--sources` names.

    Raises:
      InputError: it is no JSON list of objects.
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
            text_table(nodes, ("node type", "nodes", "dim", "dtype", "encoder")),
            text_table(kinds, ("head", "relation", "tail", *SPLITS)) + "\n(directed triples)",
            text_table(list(manifest.counts.items()), ("rows", "count")),
            text_table(leaks, ("audit", *(f.name.replace("_", " ") for f in fields(LeakageReport))))
            + f"\nsplit {manifest.split['rule']}, seed {manifest.split['seed']}: {verdict}",
        ]
    )
