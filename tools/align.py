"""Align protein sequences with each other, and write the similar pairs as a table.

    python -m tools.align --input proteins.fasta.gz --output similarity.tsv
    python -m tools.import_graph --similarity gene/protein=similarity.tsv ...

Runs DIAMOND (`--sensitive -k 200 -e 1e-3`) or MMseqs2, whichever is installed, on all pairs. The
table has the columns query, target and score; the score is the bit score. Ids are those that
tools.export_embeddings reads from the same file.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.delimited_text import parse_delimiter
from bridge_jax.errors import InputError

from .formats.entities import FORMATS, open_entities
from .ingest.aligners import ALIGNERS, AlignOptions, align, find_aligner, read_sequences


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    output = Path(args.output)
    if output.exists() and not args.overwrite:
        raise InputError(f"{output}: exists already; pass --overwrite to replace it")
    if args.threads < 1 or args.max_targets < 1 or not args.evalue > 0:
        raise InputError("--threads, --max-targets and --evalue must be positive")
    aligner, program = find_aligner(args.aligner)
    columns = (args.sequence_column,) if args.sequence_column else ()
    entities = open_entities(
        Path(args.input),
        args.format,
        args.id_column,
        columns,
        "sequence",
        parse_delimiter(args.delimiter),
    )
    sequences = read_sequences(entities)
    print(sequences, flush=True)
    options = AlignOptions(args.threads, args.max_targets, args.evalue)
    print(align(aligner, program, sequences, output, options))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.align", __doc__)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--input",
        required=True,
        help="FASTA file, or a table or Parquet file with a column of sequences; text may be "
        "gzipped",
    )
    inputs.add_argument(
        "--format",
        choices=FORMATS,
        default="",
        help="format of --input; default: found by its content",
    )
    inputs.add_argument(
        "--delimiter",
        default="",
        metavar="CHARACTER",
        help="field separator of a table: comma, tab, semicolon, pipe or any other character; "
        "default: found by the header and the first rows",
    )
    inputs.add_argument(
        "--id-column", default="", help="column of ids of a table; default: node_id, id, Entry, …"
    )
    inputs.add_argument(
        "--text-columns",
        dest="sequence_column",
        default="",
        metavar="COLUMN",
        help="column of the sequences of a table; default: sequence",
    )
    aligner = parser.add_argument_group("aligner")
    aligner.add_argument(
        "--aligner",
        choices=list(ALIGNERS),
        default="",
        help="program to run; default: the first that is installed",
    )
    aligner.add_argument(
        "--max-targets",
        type=int,
        default=200,
        metavar="N",
        help="targets of a query at most, itself included; default: 200",
    )
    aligner.add_argument(
        "--evalue", type=float, default=1e-3, help="largest e-value of a pair; default: 0.001"
    )
    aligner.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads; default: all cores",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("--output", required=True, metavar="FILE", help="table to write")
    outputs.add_argument("--overwrite", action="store_true", help="replace an existing table")
    return parser


if __name__ == "__main__":
    cli.run(main)
