"""Run a frozen encoder over text, SMILES or sequences, and write its vectors as shards.

    python -m tools.export_embeddings --encoder minilm --type disease \\
        --input disease.csv.gz --output embeddings
    python -m tools.import_graph --embeddings embeddings ...

Writes FOLDER/nodes/<type>-00000-of-0000n.tfrecord and, last, FOLDER/nodes/<type>.json. If the
command is killed, the same command continues after the last finished shard and gives the same
files. Several workers share an export with --shard 0/4 … --shard 3/4; the last to finish completes
it. An id that cannot be encoded has no record; the .json lists it with the reason.
"""

import argparse
from collections.abc import Sequence

from bridge_jax import cli
from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.tfrecord import DTYPES
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import LENGTH_POLICIES

from .export.encode import ExportOptions, export_embeddings, options_like
from .formats.entities import FORMATS
from .formats.features import ID_COLUMNS, TEXT_COLUMNS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = vars(_parser().parse_args(argv))
    dataset = args.pop("like")
    options = options_like(dataset, args) if dataset else args
    options["dtype"] = options["dtype"] or "float32"
    print(export_embeddings(ExportOptions(**options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    """The arguments are the fields of `ExportOptions`."""
    parser = cli.parser("tools.export_embeddings", __doc__)
    parser.epilog = f"encoders (the first of several choices is the default):\n{_list_encoders()}"
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--input",
        required=True,
        help="table with a header, FASTA, SMILES file, SDF or Parquet file; text may be gzipped",
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
        "--missing-values",
        nargs="*",
        default=MISSING_VALUES,
        metavar="TEXT",
        help="texts that stand for a missing value, whatever their case; ids are never missing "
        f"values; default: {' '.join(map(repr, filter(None, MISSING_VALUES)))}",
    )
    inputs.add_argument(
        "--type", required=True, help="node type of the rows, as in the graph, e.g. gene/protein"
    )
    inputs.add_argument(
        "--id-column",
        default="",
        help="column of ids; vectors of rows with the same id are averaged; default: the first "
        f"of {', '.join(ID_COLUMNS)} in the header",
    )
    columns = ", ".join(f"{k} ({' or '.join(map(' + '.join, v))})" for k, v in TEXT_COLUMNS.items())
    inputs.add_argument(
        "--text-columns",
        nargs="+",
        default=(),
        metavar="COLUMN",
        help=f'columns to encode, joined by ". "; default by what the encoder reads: {columns}',
    )
    encoder = parser.add_argument_group("encoder")
    choice = encoder.add_mutually_exclusive_group(required=True)
    choice.add_argument(
        "--encoder",
        metavar="NAME[:CHECKPOINT]",
        help="encoder from the list below; a checkpoint is a folder or a name on the hub",
    )
    choice.add_argument(
        "--like",
        metavar="DATASET",
        help="encoder, pooling, length and dtype that made the embeddings of --type in a dataset",
    )
    encoder.add_argument(
        "--pooling", help="pooling of token states into one vector; default: see below"
    )
    encoder.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="maximum length in residues or in tokens (special ones included); default: see below",
    )
    encoder.add_argument(
        "--long",
        choices=LENGTH_POLICIES,
        help="policy for longer inputs: keep the first N tokens, average windows of N tokens "
        "weighted by their lengths, or list the id as failed; default: see below",
    )
    encoder.add_argument(
        "--normalise", action="store_true", help="scale the vectors to unit length"
    )
    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device of the encoder; default: auto, which prefers cuda",
    )
    execution.add_argument(
        "--batch-tokens",
        type=int,
        metavar="N",
        help="padded tokens or residues per batch; default: see below",
    )
    execution.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="worker index I and number of workers N; worker I encodes every N-th shard; "
        "default: 0/1",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder to write; exports of several node types may share it",
    )
    outputs.add_argument(
        "--dtype",
        choices=list(DTYPES),
        help="dtype of the stored vectors; default: float32",
    )
    outputs.add_argument(
        "--shard-records",
        type=int,
        metavar="N",
        help="ids per shard; a killed command loses at most the work of one shard; default: see "
        "below",
    )
    outputs.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an export of this node type that has other input, options or weights; with "
        "several workers, start the first one alone",
    )
    return parser


def _list_encoders() -> str:
    return "\n".join(
        f"  {name + (':CHECKPOINT' if f.takes_checkpoint else ''):<22}{f.summary}\n"
        f"{'':<24}reads {f.modality or 'any column'}; --pooling {'|'.join(f.poolings)}; "
        f"--long {'|'.join(f.length_policies)};\n{'':<24}--max-length {f.max_length} {f.unit}; "
        f"--batch-tokens {f.batch_tokens}; --shard-records {f.shard_records}"
        for name, f in ENCODERS.items()
    )


if __name__ == "__main__":
    cli.run(main)
