"""Import a knowledge graph and frozen embeddings into a dataset directory.

    python -m tools.import_graph --format primekg --input kg.csv.gz --features FOLDER \\
        --embeddings FOLDER --output DATASET --split inductive --seed 0

Rows are collapsed to undirected facts, split, audited and counted. A row that cannot be used goes
to `rejects.tsv` with its reason; rows in = facts + mirrored + duplicates + rejects.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.splits import RULES

from .formats import FORMATS
from .ingest.embeddings import read_folder
from .ingest.node_matching import gather_nodes, read_groups
from .ingest.write_dataset import build, read_sources, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    refuse_to_overwrite(output / "manifest.json", args.overwrite, "a dataset")
    sources = read_sources(args.sources)
    edges = FORMATS[args.format](Path(args.input))
    nodes = gather_nodes(edges, read_folder(Path(args.embeddings or output)), args.features)
    manifest = build(
        edges,
        nodes,
        output,
        args.name or output.resolve().name,
        args.split,
        args.seed,
        {"test": args.test_fraction, "validation": args.validation_fraction},
        sources,
        hold_out=args.hold_out,
        groups=read_groups(edges, nodes, args.features, args.group_column),
        strict=args.strict,
    )
    print(report(manifest))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.import_graph", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    read.add_argument("--format", choices=list(FORMATS), required=True, help="layout of the input")
    read.add_argument("--input", required=True, help="the edge file (plain or gzipped) or folder")
    read.add_argument("--features", help="folder of node feature tables: names and groups")
    read.add_argument(
        "--embeddings",
        help="folder of <type>.npz (ids, x), <type>.npy + <type>.ids.txt, <type>.parquet, or of "
        "exported shards; default: the shards already in --output",
    )
    write.add_argument("--output", required=True, help="the dataset directory to write")
    write.add_argument("--name", help="the dataset's name; default: the folder's")
    how.add_argument(
        "--split", choices=RULES, default="inductive", help="its rule; default: inductive"
    )
    how.add_argument("--seed", type=int, default=0, help="of the split; default: 0")
    how.add_argument(
        "--test-fraction", type=float, default=0.10, help="of the nodes or facts; default: 0.10"
    )
    how.add_argument(
        "--validation-fraction",
        type=float,
        default=0.05,
        help="of the nodes or facts; default: 0.05",
    )
    how.add_argument(
        "--hold-out",
        action="append",
        default=[],
        metavar="NAME",
        help="for --split relation a triple type as head,relation,tail; for --split modality a "
        "node type; may be repeated",
    )
    how.add_argument(
        "--group-column",
        metavar="COLUMN",
        help="column of the feature tables (sequence cluster, scaffold, …) whose nodes are held "
        "out together",
    )
    how.add_argument(
        "--strict", action="store_true", help="refuse a source with any reject or oddity"
    )
    read.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    write.add_argument("--overwrite", action="store_true", help="replace a dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
