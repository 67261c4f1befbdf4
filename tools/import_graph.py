"""Import a knowledge graph and frozen embeddings as a dataset directory.

    python -m tools.import_graph --format primekg --input kg.csv.gz --features FOLDER \\
        --embeddings FOLDER --output DATASET --split inductive --seed 0

Rows are collapsed to undirected facts, split, audited for leakage and counted. Rows that cannot be
used are listed in `rejects.tsv` with the reason; rows = facts + mirrored + duplicates + rejects.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.splits import SPLIT_RULES

from .formats import FORMATS
from .ingest.embeddings import read_folder
from .ingest.node_matching import match_nodes, read_groups
from .ingest.write_dataset import SplitOptions, build_dataset, format_report, read_sources


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    refuse_to_overwrite(output / "manifest.json", args.overwrite, "a dataset")
    sources = read_sources(args.sources)
    edges = FORMATS[args.format](Path(args.input))
    nodes = match_nodes(edges, read_folder(Path(args.embeddings or output)), args.features)
    split = SplitOptions(
        args.split,
        args.seed,
        args.test_fraction,
        args.validation_fraction,
        args.hold_out,
        read_groups(edges, nodes, args.features, args.group_column),
    )
    name = args.name or output.resolve().name
    print(format_report(build_dataset(edges, nodes, output, name, split, sources, args.strict)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.import_graph", __doc__)
    inputs = parser.add_argument_group("inputs")
    outputs = parser.add_argument_group("outputs")
    split = parser.add_argument_group("split")
    inputs.add_argument(
        "--format", choices=list(FORMATS), required=True, help="format of the graph"
    )
    inputs.add_argument("--input", required=True, help="edge file (plain or gzipped) or folder")
    inputs.add_argument("--features", help="folder of node feature tables, for names and groups")
    inputs.add_argument(
        "--embeddings",
        help="folder of <type>.npz (ids, x), <type>.npy + <type>.ids.txt, <type>.parquet or "
        "exported shards; default: the shards already in --output",
    )
    inputs.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    inputs.add_argument(
        "--strict", action="store_true", help="treat a reject or a notice as an error"
    )
    outputs.add_argument("--output", required=True, help="dataset directory")
    outputs.add_argument("--name", help="name of the dataset; default: the name of --output")
    outputs.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    split.add_argument(
        "--split", choices=SPLIT_RULES, default="inductive", help="split rule; default: inductive"
    )
    split.add_argument("--seed", type=int, default=0, help="random seed; default: 0")
    split.add_argument(
        "--test-fraction",
        type=float,
        default=0.10,
        help="test fraction of the nodes or facts; default: 0.10",
    )
    split.add_argument(
        "--validation-fraction",
        type=float,
        default=0.05,
        help="validation fraction of the nodes or facts; default: 0.05",
    )
    split.add_argument(
        "--hold-out",
        action="append",
        default=[],
        metavar="NAME",
        help="with --split relation a triple type (head,relation,tail), with --split modality a "
        "node type; may be repeated",
    )
    split.add_argument(
        "--group-column",
        metavar="COLUMN",
        help="column of the feature tables (sequence cluster, scaffold, …); nodes with the same "
        "value are held out together",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
