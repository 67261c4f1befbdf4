"""Cut a smaller dataset out of a dataset directory, and split it anew.

    python -m tools.subset openbiokg --output data/demo --keep gene/protein=4500 \\
        --keep biological_process=1800 --without ppi --about tools/openbiokg.json

Node types that no --keep names are left out. Of each named type, in the order given, the nodes
with the most facts to what is kept so far stay (ties by id); the first type counts facts to every
named type. The result is the same byte for byte for the same input.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import SPLITS, Manifest, read_manifest
from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.graph import Facts, Graph, load_graph
from bridge_jax.errors import InputError

from .formats.edges import Edges, Node
from .ingest.embeddings import Embeddings, read_shards
from .ingest.node_matching import Nodes
from .ingest.write_dataset import build, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    refuse_to_overwrite(output / "manifest.json", args.overwrite, "a dataset")
    manifest = read_manifest(args.dataset)
    about = json.loads(Path(args.about).read_text()) if args.about else {}
    limits, names = _limits(args.keep), about.get("node_types", {})
    edges, nodes = cut(args.dataset, manifest, limits, args.without, names)
    fractions = {k: manifest.split[k] for k in ("test", "validation")}
    if args.validation_fraction is not None:
        fractions["validation"] = args.validation_fraction
    sources = about.get("sources", list(manifest.sources))
    built = build(edges, nodes, output, output.name, "inductive", args.seed, fractions, sources)
    print(report(built))
    return 0


def cut(
    root: str | Path,
    manifest: Manifest,
    limits: dict[str, int],
    without: Sequence[str],
    about: dict[str, dict[str, str]],
) -> tuple[Edges, Nodes]:
    """Choose the nodes to keep and the facts between them.

    Args:
      root: the dataset directory.
      manifest: its manifest.
      limits: how many nodes of each type to keep, in the order of choice.
      without: relations to leave out.
      about: encoder, pooling, source or licence by node type, in place of the manifest's.

    Returns:
      What `tools.ingest.write_dataset.build` takes.

    Raises:
      InputError: a type or relation that the dataset does not have.
    """
    graph = load_graph(root, manifest)
    facts = joined(graph)
    facts = facts[~np.isin(facts.relation, [graph.relation_id(r) for r in without])]
    data = {kind: read_shards(root, manifest.table(kind)) for kind in limits}
    spans = {
        kind: slice(start := int(graph.offsets[graph.type_id(kind)]), start + len(data[kind].ids))
        for kind in limits
    }
    wanted, chosen = np.zeros(sum(graph.counts), bool), np.zeros(sum(graph.counts), bool)
    for span in spans.values():
        wanted[span] = True
    for place, (kind, limit) in enumerate(limits.items()):
        degree = _degree(facts, chosen if place else wanted)[spans[kind]]
        order = np.lexsort((np.array(data[kind].ids), -degree))[:limit]
        chosen[spans[kind].start + order[degree[order] > 0]] = True

    tables, names, place_of = {}, {}, np.full(len(chosen), -1, np.int64)
    nodes: list[Node] = []
    for kind in sorted(limits):
        rows = np.flatnonzero(chosen[spans[kind]])
        whole = data[kind]
        known = read_names(root, kind)
        kept = [whole.ids[i] for i in rows]
        said = whole.about | {"failed": ()} | about.get(kind, {})
        tables[kind] = Embeddings(kept, np.ascontiguousarray(whole.x[rows]), said)
        names |= {(kind, i): known.get(i, i) for i in kept}
        place_of[spans[kind].start + rows] = len(nodes) + np.arange(len(rows))
        nodes += [Node(kind, i, "", names[(kind, i)]) for i in kept]
    return _edges(graph, facts, nodes, place_of), Nodes(
        tuple(sorted(limits)), tables, names, np.arange(len(nodes))
    )


def joined(graph: Graph) -> Facts:
    """The facts of all splits."""
    parts = [graph.facts[s] for s in SPLITS if s in graph.facts]
    names = ("head", "relation", "tail", "mirrored")
    return Facts(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def _degree(facts: Facts, among: np.ndarray) -> np.ndarray:
    degree = np.zeros(len(among), np.int64)
    np.add.at(degree, facts.head[among[facts.tail]], 1)
    np.add.at(degree, facts.tail[among[facts.head]], 1)
    return degree


def _edges(graph: Graph, facts: Facts, nodes: list[Node], place_of: np.ndarray) -> Edges:
    head, tail = place_of[facts.head], place_of[facts.tail]
    inside = (head >= 0) & (tail >= 0)
    back = inside & (facts.mirrored == 1)
    columns = (
        np.concatenate([head[inside], tail[back]]),
        np.concatenate([facts.relation[inside], facts.relation[back]]).astype(np.int64),
        np.concatenate([tail[inside], head[back]]),
    )
    return Edges(nodes, list(graph.relations), *columns, row=np.arange(len(columns[0])))


def _limits(items: Sequence[str]) -> dict[str, int]:
    limits = {}
    for item in items:
        kind, _, count = item.rpartition("=")
        if not kind or not count.isdigit() or int(count) < 1:
            raise InputError(f"--keep {item!r}: expected <node type>=<how many>")
        limits[kind] = int(count)
    return limits


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.subset", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    read.add_argument("dataset", help="the dataset directory to cut from")
    write.add_argument("--output", required=True, help="the dataset directory to write")
    how.add_argument(
        "--keep", action="append", required=True, help="<node type>=<how many>; repeat for each"
    )
    how.add_argument(
        "--without", action="append", default=[], help="a relation to leave out; may be repeated"
    )
    read.add_argument("--about", help="JSON with `sources` and `node_types` for the manifest")
    how.add_argument(
        "--validation-fraction", type=float, help="of the nodes; default: as in the dataset"
    )
    how.add_argument("--seed", type=int, default=0, help="of the split; default: 0")
    write.add_argument("--overwrite", action="store_true", help="replace a dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
