"""Run a frozen encoder over text, SMILES or sequences, and write its vectors as shards.

    python -m tools.export_embeddings --encoder minilm --type disease \\
        --input disease.csv.gz --output embeddings
    python -m tools.import_graph --embeddings embeddings ...

Writes FOLDER/nodes/<type>-00000-of-0000n.tfrecord and, last, FOLDER/nodes/<type>.json. Killed at
any moment, the same command continues after the last finished shard, and the result is the same.
Several workers share an export with --shard 0/4 … --shard 3/4; the last to finish completes it.
An id that cannot be encoded is listed with its reason in the .json and has no record.
"""

import argparse
from collections.abc import Sequence

from bridge_jax import cli
from bridge_jax.data.tfrecord import DTYPES
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import LONG

from .export.encode import ExportOptions, export_embeddings
from .formats.features import COLUMNS_READ, ID_COLUMNS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    print(export_embeddings(ExportOptions(**vars(args))))
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  {key + (':CHECKPOINT' if f.checkpoints else ''):<22}{f.summary}\n"
        f"{'':<24}reads {f.reads or 'any column'}; --pooling {'|'.join(f.poolings)}; "
        f"--long {'|'.join(f.long)};\n{'':<24}--max-length {f.max_length} {f.unit}; "
        f"--batch-tokens {f.batch_tokens}; --shard-records {f.shard_records}"
        for key, f in ENCODERS.items()
    ]
    columns = "; ".join(f"{k}: {' or '.join(map(' + '.join, v))}" for k, v in COLUMNS_READ.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_embeddings",
        description=__doc__,
        epilog="encoders (first choices are the defaults):\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("input")
    what.add_argument("--input", required=True, help="a CSV with a header, plain or gzipped")
    what.add_argument(
        "--type", required=True, help="the node type of its rows, as in the graph: gene/protein"
    )
    what.add_argument(
        "--id-column",
        default="",
        help=f"default: the first there is of {', '.join(ID_COLUMNS)}; rows of one id are averaged",
    )
    what.add_argument(
        "--text-columns",
        nargs="+",
        default=(),
        metavar="COLUMN",
        help='what the encoder reads, joined by ". "; default: by what the encoder reads, '
        f"{columns}",
    )
    how = parser.add_argument_group("encoder")
    how.add_argument(
        "--encoder",
        required=True,
        metavar="NAME[:CHECKPOINT]",
        help="one of those below; a checkpoint is a folder or a hub name",
    )
    how.add_argument(
        "--pooling", help="how states become one vector; default: the encoder's first, see below"
    )
    how.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens (special ones included) or residues; default: see below",
    )
    how.add_argument(
        "--long",
        choices=LONG,
        help="longer inputs: keep the start, average windows of N weighted by their tokens, or "
        "list the id as failed; default: the encoder's first, see below",
    )
    how.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )
    how.add_argument(
        "--batch-tokens",
        type=int,
        metavar="N",
        help="padded tokens a batch; default: see below",
    )
    where = parser.add_argument_group("output")
    where.add_argument(
        "--output", required=True, metavar="FOLDER", help="several types may share it"
    )
    where.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="as stored; default: float32"
    )
    where.add_argument(
        "--shard-records",
        type=int,
        metavar="N",
        help="ids a shard, and so the work that a kill can lose; default: see below",
    )
    where.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="be worker I of N and encode every N-th shard; default: 0/1",
    )
    where.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an export of this type from other input, options or weights; with several "
        "workers, start the first one alone",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
