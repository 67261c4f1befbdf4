"""Cut a smaller dataset from a dataset directory and split it anew.

    python -m tools.subset openbiokg --output data/demo --keep gene/protein=4500 \\
        --keep biological_process=1800 --without ppi --about tools/openbiokg.json

Only node types named by --keep stay. They are processed in the order given: of each type, the nodes
with the most facts to the nodes kept so far stay (ties by id). For the first type, all facts to
nodes of the named types count. The same input gives the same output, byte for byte.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax import cli
from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.encoder_spec import SPEC_KEY, spec_from_json
from bridge_jax.data.graph import Facts, Graph, load_graph
from bridge_jax.data.manifest import SPLITS, Manifest, read_manifest
from bridge_jax.data.similarity import read_similarity
from bridge_jax.data.synonyms import read_synonyms
from bridge_jax.errors import InputError

from .formats.edges import Edges, SourceNode
from .ingest.embeddings import Embeddings, read_shards
from .ingest.node_matching import MatchedNodes
from .ingest.replace_dataset import dataset_lock
from .ingest.similarity import MatchedPairs
from .ingest.source_notices import relations_within_types
from .ingest.write_dataset import SplitOptions, build_dataset, format_report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    with dataset_lock(output, args.overwrite):
        return _write_subset(args, output)


def _write_subset(args: argparse.Namespace, output: Path) -> int:
    manifest = read_manifest(args.dataset)
    about = json.loads(Path(args.about).read_text()) if args.about else {}
    edges, nodes = select_subset(
        args.dataset, manifest, _parse_limits(args.keep), args.without, about.get("node_types", {})
    )
    validation = args.validation_fraction
    split = SplitOptions(
        "inductive",
        args.seed,
        test=manifest.split["test"],
        validation=manifest.split["validation"] if validation is None else validation,
        directed=sorted(
            relations_within_types(edges) & set(manifest.split.get("directed_relations", ()))
        ),
    )
    sources = about.get("sources", list(manifest.sources))
    similarity = select_similarity(args.dataset, manifest, nodes)
    print(
        format_report(
            build_dataset(edges, nodes, output, output.name, split, sources, similarity=similarity)
        )
    )
    return 0


def select_subset(
    root: str | Path,
    manifest: Manifest,
    limits: Mapping[str, int],
    without: Sequence[str],
    metadata: Mapping[str, dict[str, Any]],
) -> tuple[Edges, MatchedNodes]:
    """Selects the nodes with the most facts, and the facts between them.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      limits: Maximum number of nodes by node type, in the order of selection.
      without: Relations to leave out.
      metadata: Encoder, pooling, source, licence or encoder specification by node type; default:
        as in the manifest.

    Returns:
      The arguments `edges` and `nodes` of `build_dataset`.

    Raises:
      InputError: The dataset has no such node type or relation.
    """
    graph = load_graph(root, manifest)
    facts = Facts.concatenate(graph.facts[s] for s in SPLITS if s in graph.facts)
    facts = facts[~np.isin(facts.relation, [graph.relation_id(r) for r in without])]
    stored = {node_type: read_shards(root, manifest.table(node_type)) for node_type in limits}
    is_selected = _select_nodes(graph, facts, limits, stored)

    tables: dict[str, Embeddings] = {}
    names: dict[tuple[str, str], str] = {}
    synonyms: dict[tuple[str, str], Sequence[str]] = {}
    nodes: list[SourceNode] = []
    new_id = np.full(len(is_selected), -1, np.int64)
    for node_type in sorted(limits):
        embeddings, span = stored[node_type], _span(graph, node_type)
        rows = np.flatnonzero(is_selected[span])
        ids = [embeddings.ids[i] for i in rows]
        vectors = np.ascontiguousarray(embeddings.x[rows])
        about = embeddings.metadata | {"failed": ()} | metadata.get(node_type, {})
        if isinstance(about.get(SPEC_KEY), dict):
            about[SPEC_KEY] = spec_from_json(about[SPEC_KEY])
        tables[node_type] = Embeddings(ids, vectors, about)
        known_names = read_names(root, manifest, node_type)
        names |= {(node_type, i): known_names.get(i, i) for i in ids}
        known_synonyms = read_synonyms(root, manifest, node_type)
        synonyms |= {(node_type, i): known_synonyms[i] for i in ids if i in known_synonyms}
        new_id[span.start + rows] = len(nodes) + np.arange(len(rows))
        nodes += [SourceNode(node_type, i, "", names[(node_type, i)]) for i in ids]
    matched = MatchedNodes(
        tuple(sorted(limits)), tables, names, np.arange(len(nodes)), synonyms=synonyms
    )
    return _edges(graph, facts, nodes, new_id), matched


def select_similarity(
    root: str | Path, manifest: Manifest, nodes: MatchedNodes
) -> dict[str, MatchedPairs]:
    """Selects the similar nodes among those of a subset.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      nodes: Nodes of the subset.

    Returns:
      The pairs between them, by node type.
    """
    selected = {}
    for node_type in nodes.types:
        pairs = read_similarity(root, manifest, node_type)
        if pairs is not None:
            all_ids = read_shards(root, manifest.table(node_type)).ids
            row_of = {i: row for row, i in enumerate(all_ids)}
            rows = np.array([row_of[i] for i in nodes.tables[node_type].ids], np.int64)
            selected[node_type] = MatchedPairs(node_type, pairs.select(rows))
    return selected


def _span(graph: Graph, node_type: str) -> slice:
    """Returns the global ids of a node type."""
    i = graph.type_id(node_type)
    return slice(int(graph.offsets[i]), int(graph.offsets[i + 1]))


def _select_nodes(
    graph: Graph, facts: Facts, limits: Mapping[str, int], stored: Mapping[str, Embeddings]
) -> np.ndarray:
    """Returns, for each global id, whether the node is selected."""
    of_named_type = np.zeros(sum(graph.counts), bool)
    for node_type in limits:
        of_named_type[_span(graph, node_type)] = True
    is_selected = np.zeros_like(of_named_type)
    for step, (node_type, limit) in enumerate(limits.items()):
        span = _span(graph, node_type)
        degree = _degree_to(facts, is_selected if step else of_named_type)[span]
        order = np.lexsort((np.array(stored[node_type].ids), -degree))[:limit]
        is_selected[span.start + order[degree[order] > 0]] = True
    return is_selected


def _degree_to(facts: Facts, targets: np.ndarray) -> np.ndarray:
    """Counts the facts of each node whose other end is one of the target nodes."""
    degree = np.zeros(len(targets), np.int64)
    np.add.at(degree, facts.head[targets[facts.tail]], 1)
    np.add.at(degree, facts.tail[targets[facts.head]], 1)
    return degree


def _edges(graph: Graph, facts: Facts, nodes: list[SourceNode], new_id: np.ndarray) -> Edges:
    """Returns the facts between selected nodes as edges; mirrored facts in both directions."""
    head, tail = new_id[facts.head], new_id[facts.tail]
    inside = (head >= 0) & (tail >= 0)
    reverse = inside & (facts.mirrored == 1)
    columns = (
        np.concatenate([head[inside], tail[reverse]]),
        np.concatenate([facts.relation[inside], facts.relation[reverse]]).astype(np.int64),
        np.concatenate([tail[inside], head[reverse]]),
    )
    return Edges(nodes, list(graph.relations), *columns, row=np.arange(len(columns[0])))


def _parse_limits(items: Sequence[str]) -> dict[str, int]:
    limits = {}
    for item in items:
        node_type, _, count = item.rpartition("=")
        if not node_type or not count.isdigit() or int(count) < 1:
            raise InputError(f"--keep {item!r}: expected <node type>=<number of nodes>")
        limits[node_type] = int(count)
    return limits


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.subset", __doc__)
    inputs = parser.add_argument_group("inputs")
    outputs = parser.add_argument_group("outputs")
    selection = parser.add_argument_group("selection")
    split = parser.add_argument_group("split")
    inputs.add_argument("dataset", help="dataset directory to cut from")
    inputs.add_argument(
        "--about",
        metavar="FILE",
        help="JSON file with `sources` and `node_types` for the manifest; default: as in the "
        "dataset",
    )
    outputs.add_argument("--output", required=True, help="dataset directory to write")
    outputs.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    selection.add_argument(
        "--keep",
        action="append",
        required=True,
        metavar="TYPE=N",
        help="node type and maximum number of its nodes; may be repeated",
    )
    selection.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="RELATION",
        help="relation to leave out; may be repeated",
    )
    split.add_argument(
        "--validation-fraction",
        type=float,
        help="validation fraction of the nodes; default: as in the dataset",
    )
    split.add_argument("--seed", type=int, default=0, help="random seed; default: 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
