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
import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import DTYPES
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import LONG, Encoder, Family, Settings
from bridge_jax.encoders.batching import encode
from bridge_jax.errors import InputError, unknown
from tools.export.shards import Plan, complete, make_plan, report, write_part
from tools.formats.features import COLUMNS_READ, ID_COLUMNS, choose_columns


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    family, settings = choose(args)
    worker, workers = _worker(args.shard)
    source = Path(args.input)
    columns = choose_columns(source, args.id_column, tuple(args.text_columns), family.reads)
    if not columns.text:
        raise InputError(f"{source}: no column to read; name it with --text-columns")
    batch_tokens = _positive("--batch-tokens", args.batch_tokens, family.batch_tokens)
    shard_records = _positive("--shard-records", args.shard_records, family.shard_records)
    plan = make_plan(source, columns, shard_records)
    with open(source, "rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    fingerprint = {
        "type": args.type,
        "input sha256": sha256,
        "--id-column": columns.id,
        "--text-columns": list(columns.text),
        "--encoder": args.encoder.split(":")[0],
        "checkpoint": _checkpoint(settings.checkpoint),
        "--pooling": settings.pooling,
        "--max-length": settings.max_length or family.max_length,
        "--long": settings.long,
        "--dtype": args.dtype,
        "--batch-tokens": batch_tokens,
        "--shard-records": shard_records,
    }
    journal = Journal(Path(args.output), args.type)
    journal.open(fingerprint, plan.shards, args.overwrite)
    if workers == 1:
        journal.sweep()
    rows = sum(map(len, plan.texts))
    _say(f"{args.type}: {rows:,} rows of {len(plan.ids):,} {columns.id}s")
    _say(f"each is read from {' + '.join(columns.text)}")
    mine = range(worker, plan.shards, workers)
    if any(journal.read(k, check=True) is None for k in mine):
        encoder = family.load(settings)
        pooling = f"{settings.pooling}, {describe(settings.long, encoder.max_length, family.unit)}"
        made = {"encoder": f"{encoder.name}@{encoder.digest[:12]}", "pooling": pooling}
        journal.pin(made, args.overwrite)
        todo = [k for k in mine if journal.read(k, check=True) is None]
        run(plan, todo, encoder, made, args.dtype, batch_tokens, journal)
    id_column = "node_index" if columns.id == "node_index" else "node_id"
    table = complete(plan, journal, args.type, args.dtype, source.name, id_column)
    if table is None:
        left = sum(journal.read(k) is None for k in range(plan.shards))
        print(f"{args.type}: this worker is done; {left} of {plan.shards} shards are left")
    else:
        print(report(table, journal))
    return 0


def choose(args: argparse.Namespace) -> tuple[Family, Settings]:
    """The encoder that the arguments name, and its settings.

    Raises:
      InputError: there is no such encoder, or it has no such pooling or policy.
    """
    key, _, checkpoint = args.encoder.partition(":")
    if key not in ENCODERS:
        raise unknown("encoder", key, ENCODERS, "bridge_jax/encoders")
    family = ENCODERS[key]
    if checkpoint and not family.checkpoints:
        raise InputError(f"--encoder {args.encoder}: {key} has one checkpoint; name it without")
    pooling, long = args.pooling or family.poolings[0], args.long or family.long[0]
    if pooling not in family.poolings:
        raise unknown("--pooling", pooling, family.poolings, key)
    if long not in family.long:
        raise unknown("--long", long, family.long, key)
    _positive("--max-length", args.max_length, family.max_length)
    return family, Settings(
        args.encoder, checkpoint or family.checkpoint, args.device, args.max_length, long, pooling
    )


def run(
    plan: Plan,
    todo: Sequence[int],
    encoder: Encoder,
    made: Mapping[str, str],
    dtype: str,
    batch_tokens: int,
    journal: Journal,
) -> None:
    """Encode shards, one after the other, and record each in the journal.

    Args:
      plan: what there is to encode.
      todo: the shards to encode.
      encoder: loaded.
      made: `encoder` and `pooling` as the sidecar records them.
      dtype: of the stored vectors.
      batch_tokens: padded positions a batch.
      journal: is told about each finished shard.
    """
    progress = Progress(plan, todo)
    with ThreadPoolExecutor(1) as ahead:  # the next shard is prepared while this one is encoded
        following = ahead.submit(encoder.prepare, plan.distinct(todo[0]))
        for place, k in enumerate(todo):
            prepared = following.result()
            if place + 1 < len(todo):
                following = ahead.submit(encoder.prepare, plan.distinct(todo[place + 1]))
            rows = encode(encoder, prepared, batch_tokens, progress.tick)
            journal.sweep(k)
            entry = write_part(
                plan, k, dict(zip(plan.distinct(k), rows, strict=True)), dtype, journal
            )
            long = sum(not isinstance(p, str) and p.long for p in prepared)
            journal.write(k, {**made, **entry, "long": long})
            progress.finish(k)
    progress.close()


def describe(long: str, max_length: int, unit: str) -> str:
    """The length policy in words, for the sidecar."""
    words = {"truncate": "first {} {}", "windows": "windows of {} {}", "fail": "at most {} {}"}
    return words[long].format(max_length, unit)


class Progress:
    """One line on stderr: rows done, rows a second, and the time left."""

    def __init__(self, plan: Plan, todo: Sequence[int]) -> None:
        self.rows = {k: sum(map(len, plan.texts[plan.part(k)])) for k in todo}
        self.size = {k: sum(len(t) for t in plan.distinct(k)) + 1 for k in todo}
        self.todo = list(todo)
        self.done_rows = self.done_size = 0
        self.started = time.monotonic()
        self.shown = 0.0
        self.live = sys.stderr.isatty()

    def tick(self, share: float) -> None:
        """Show that a share of the present shard is done; at most twice a second."""
        now = time.monotonic()
        if now - self.shown >= (0.5 if self.live else 10):
            self.shown = now
            self._show(share)

    def finish(self, k: int) -> None:
        """Show that a shard is done."""
        self.todo.remove(k)
        self.done_rows += self.rows[k]
        self.done_size += self.size[k]

    def close(self) -> None:
        """Show the final figures."""
        self._show(0.0)
        if self.live:
            _say("")

    def _show(self, share: float) -> None:
        present = self.todo[0] if self.todo else None
        rows, size = self.done_rows, float(self.done_size)
        if present is not None:
            rows, size = rows + int(share * self.rows[present]), size + share * self.size[present]
        spent = max(time.monotonic() - self.started, 1e-9)
        left = int(spent * (sum(self.size.values()) - size) / size) if size else 0
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        line = (
            f"{rows:,}/{sum(self.rows.values()):,} rows, {rows / spent:,.1f} rows/s, {clock} left"
        )
        _say(f"\r{line}   " if self.live else line, end="" if self.live else "\n")


def _say(line: str, end: str = "\n") -> None:
    print(line, end=end, file=sys.stderr, flush=True)


def _checkpoint(name: str) -> str:
    """A folder's whole path; a hub name as it is."""
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name


def _worker(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise InputError(f"--shard {text}: write it as i/n with i < n, as in 0/4")
    return int(i), int(n)


def _positive(flag: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise InputError(f"{flag} {value}: must be at least 1")
    return default if value is None else value


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
