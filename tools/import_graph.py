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
from bridge_jax.data.delimited_text import parse_delimiter
from bridge_jax.data.embedding_files import ReadOptions
from bridge_jax.data.splits import SPLIT_RULES
from bridge_jax.formatting import escape_control_characters

from .formats import FORMATS, read_graph
from .ingest.embeddings import check_encoders, read_folder
from .ingest.id_matching import MatchOptions, compile_id_pattern
from .ingest.node_lookup import unify_spellings
from .ingest.node_matching import match_nodes, read_groups
from .ingest.replace_dataset import dataset_lock
from .ingest.similarity import read_similarities
from .ingest.source_notices import check_usable, format_matches, led_by_first_cause
from .ingest.write_dataset import (
    SplitOptions,
    build_dataset,
    format_report,
    read_sources,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    reading = cli.embedding_options(args)
    output = Path(args.output)
    with dataset_lock(output, args.overwrite):
        return _import(args, reading, output)


def _import(args: argparse.Namespace, reading: ReadOptions, output: Path) -> int:
    sources = read_sources(args.sources)
    delimiter = parse_delimiter(args.delimiter)
    matching = MatchOptions(
        args.allow_unmatched,
        compile_id_pattern(args.id_pattern),
        args.node_index_ids,
        args.id_column,
        delimiter,
    )
    graph = read_graph(
        args.format, Path(args.input), delimiter=delimiter, iri_pattern=args.iri_pattern
    )
    edges = unify_spellings(graph)
    check_usable(edges)
    embeddings = read_folder(Path(args.embeddings or output), reading, edges.notices)
    with led_by_first_cause(edges.rejects, edges.num_rows):
        nodes = match_nodes(edges, embeddings, args.features, matching)
    check_encoders(output, nodes.tables, args.allow_other_encoder)
    similarity = read_similarities(args.similarity, edges, nodes, matching)
    split = SplitOptions(
        args.split,
        args.seed,
        args.test_fraction,
        args.validation_fraction,
        args.hold_out,
        read_groups(edges, nodes, args.features, args.group_column, matching),
        args.directed,
    )
    name = args.name or output.resolve().name
    manifest = build_dataset(edges, nodes, output, name, split, sources, args.strict, similarity)
    report = f"{format_report(manifest)}\n\n{format_matches(nodes, edges, similarity.values())}"
    print("\n".join(map(escape_control_characters, report.split("\n"))))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.import_graph", __doc__)
    inputs = parser.add_argument_group("inputs")
    ids = parser.add_argument_group("ids")
    outputs = parser.add_argument_group("outputs")
    split = parser.add_argument_group("split")
    inputs.add_argument(
        "--format", choices=list(FORMATS), required=True, help="format of the graph"
    )
    inputs.add_argument("--input", required=True, help="edge file (plain or gzipped) or folder")
    inputs.add_argument(
        "--features", help="folder of node feature tables, for names, synonyms and groups"
    )
    inputs.add_argument(
        "--embeddings",
        help="folder of <type>.npz, .npy (with .ids.txt), .parquet, .h5, .h5ad, .pt, .safetensors "
        "or .csv, of subfolders <type> with ESM's .pt files, or of exported shards; default: the "
        "shards already in --output",
    )
    inputs.add_argument(
        "--delimiter",
        default="",
        metavar="CHARACTER",
        help="field separator of the graph and the feature tables whose first line has it: a "
        "character, or comma, tab, semicolon, pipe; default: found for each file",
    )
    inputs.add_argument(
        "--directed",
        action="append",
        default=[],
        metavar="RELATION",
        help="relation whose facts within one node type have a direction, so that A inhibits B and "
        "B inhibits A are two facts; may be repeated",
    )
    inputs.add_argument(
        "--iri-pattern",
        default="",
        metavar="REGEX",
        help="with --format ntriples, regular expression with the groups type and id that finds "
        "both in an IRI: '/(?P<type>\\w+)/(?P<id>\\w+)$'",
    )
    inputs.add_argument(
        "--similarity",
        action="append",
        default=[],
        metavar="TYPE=FILE",
        help="similar nodes of a node type: the 12 columns of BLAST, DIAMOND, MMseqs2 or Foldseek, "
        "or a table or Parquet file with the columns query, target and score, such as tools.align "
        "makes; may be repeated",
    )
    inputs.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    inputs.add_argument(
        "--strict", action="store_true", help="treat a reject or a notice as an error"
    )
    ids.add_argument(
        "--allow-unmatched",
        action="store_true",
        help="accept a file of embeddings or features few of whose ids are nodes of the graph",
    )
    ids.add_argument(
        "--id-pattern",
        metavar="REGEX",
        help="regular expression with one group that cuts the id out of the ids of embeddings and "
        "features: '\\|(.+)\\|' for sp|P04637|P53_HUMAN, '(.+)\\.\\d+$' for P04637.2",
    )
    ids.add_argument(
        "--node-index-ids",
        action="append",
        default=[],
        metavar="FILE",
        help="name without suffix of a file of embeddings whose ids are node indices of the graph "
        "(PrimeKG's x_index); may be repeated",
    )
    ids.add_argument(
        "--id-column",
        default="",
        metavar="COLUMN",
        help="column of the feature tables with the ids; default: node_id, drugbank_id, node_index "
        "or id",
    )
    embeddings = parser.add_argument_group("embeddings")
    cli.add_embedding_arguments(embeddings)
    cli.add_other_encoder_argument(embeddings)
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
