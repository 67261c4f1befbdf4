"""An export of embeddings: an encoder run over a table of inputs, shard after shard."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge_jax.data.files import sha256_of_file
from bridge_jax.data.shard_journal import Journal, parse_shard
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.batching import encode
from bridge_jax.errors import InputError, unknown
from bridge_jax.progress import RateProgress
from bridge_jax.training.prefetch import prefetch

from ..formats.features import choose_columns
from .shards import Plan, complete, make_plan, report, write_part


@dataclass(frozen=True)
class ExportOptions:
    """Options of one export, as `tools.export_embeddings` takes them.

    Attributes:
      input: Table with a header, one row per input.
      type: Node type of its rows.
      encoder: `NAME` or `NAME:CHECKPOINT`, a name of `bridge_jax.encoders.ENCODERS`.
      output: Folder to write.
      id_column: Column of ids; default: the first known one.
      text_columns: Columns to encode; default: those that the encoder reads.
      pooling: How states become one vector; default: the encoder's first.
      max_length: Limit in tokens or residues; default: the encoder's.
      long: Policy for longer inputs; default: the encoder's first.
      device: `auto`, `cpu` or `cuda`.
      batch_tokens: Padded positions per batch; default: the encoder's.
      dtype: Dtype of the stored vectors.
      shard_records: Ids per shard; default: the encoder's.
      shard: `i/n`, the share of worker i of n.
      overwrite: Whether to replace an export from other input, options or weights.
    """

    input: str
    type: str
    encoder: str
    output: str
    id_column: str = ""
    text_columns: Sequence[str] = ()
    pooling: str | None = None
    max_length: int | None = None
    long: str | None = None
    device: str = "auto"
    batch_tokens: int | None = None
    dtype: str = "float32"
    shard_records: int | None = None
    shard: str = "0/1"
    overwrite: bool = False


def export_embeddings(options: ExportOptions) -> str:
    """Encodes the shards that are missing, and completes the export once all are there.

    Args:
      options: Options of the export.

    Returns:
      A report for the terminal.

    Raises:
      InputError: The options do not fit the input or the encoder, or the output holds another
        export.
    """
    family, settings = choose_encoder(options)
    worker, workers = parse_shard(options.shard)
    source = Path(options.input)
    columns = choose_columns(source, options.id_column, tuple(options.text_columns), family.reads)
    if not columns.text:
        raise InputError(f"{source}: no column to read; name it with --text-columns")
    batch_tokens = _positive("--batch-tokens", options.batch_tokens, family.batch_tokens)
    shard_records = _positive("--shard-records", options.shard_records, family.shard_records)
    plan = make_plan(source, columns, shard_records)
    fingerprint = {
        "type": options.type,
        "input sha256": sha256_of_file(source),
        "--id-column": columns.id,
        "--text-columns": list(columns.text),
        "--encoder": options.encoder.split(":")[0],
        "checkpoint": _checkpoint(settings.checkpoint),
        "--pooling": settings.pooling,
        "--max-length": settings.max_length or family.max_length,
        "--long": settings.long,
        "--dtype": options.dtype,
        "--batch-tokens": batch_tokens,
        "--shard-records": shard_records,
    }
    journal = Journal(Path(options.output), options.type)
    journal.open(fingerprint, plan.shards, options.overwrite)
    if workers == 1:
        journal.sweep()
    rows = sum(map(len, plan.texts))
    _log(f"{options.type}: {rows:,} rows of {len(plan.ids):,} {columns.id}s")
    _log(f"each is read from {' + '.join(columns.text)}")
    mine = range(worker, plan.shards, workers)
    if any(journal.read(k, check=True) is None for k in mine):
        encoder = family.load(settings)
        pooling = f"{settings.pooling}, {describe(settings.long, encoder.max_length, family.unit)}"
        made = {"encoder": f"{encoder.name}@{encoder.digest[:12]}", "pooling": pooling}
        journal.pin(made, options.overwrite)
        todo = [k for k in mine if journal.read(k, check=True) is None]
        encode_shards(plan, todo, encoder, made, options.dtype, batch_tokens, journal)
    id_column = "node_index" if columns.id == "node_index" else "node_id"
    table = complete(plan, journal, options.type, options.dtype, source.name, id_column)
    if table is None:
        left = sum(journal.read(k) is None for k in range(plan.shards))
        return f"{options.type}: this worker is done; {left} of {plan.shards} shards are left"
    return report(table, journal)


def choose_encoder(options: ExportOptions) -> tuple[Family, Settings]:
    """The encoder that the arguments name, and its settings.

    Raises:
      InputError: there is no such encoder, or it has no such pooling or policy.
    """
    key, _, checkpoint = options.encoder.partition(":")
    if key not in ENCODERS:
        raise unknown("encoder", key, ENCODERS, "bridge_jax/encoders")
    family = ENCODERS[key]
    if checkpoint and not family.checkpoints:
        raise InputError(f"--encoder {options.encoder}: {key} has one checkpoint; name it without")
    pooling, long = options.pooling or family.poolings[0], options.long or family.long[0]
    if pooling not in family.poolings:
        raise unknown("--pooling", pooling, family.poolings, key)
    if long not in family.long:
        raise unknown("--long", long, family.long, key)
    _positive("--max-length", options.max_length, family.max_length)
    return family, Settings(
        options.encoder,
        checkpoint or family.checkpoint,
        options.device,
        options.max_length,
        long,
        pooling,
    )


def encode_shards(
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
    progress = RateProgress(sum(sum(map(len, plan.texts[plan.part(k)])) for k in todo))
    ahead = prefetch((encoder.prepare(plan.distinct(k)) for k in todo), 1)
    for k, prepared in zip(todo, ahead, strict=True):
        rows = encode(encoder, prepared, batch_tokens)
        journal.sweep(k)
        entry = write_part(plan, k, dict(zip(plan.distinct(k), rows, strict=True)), dtype, journal)
        long = sum(not isinstance(p, str) and p.long for p in prepared)
        journal.write(k, {**made, **entry, "long": long})
        progress.advance(sum(map(len, plan.texts[plan.part(k)])))
    progress.close()


def describe(long: str, max_length: int, unit: str) -> str:
    """The length policy in words, for the sidecar."""
    words = {"truncate": "first {} {}", "windows": "windows of {} {}", "fail": "at most {} {}"}
    return words[long].format(max_length, unit)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _checkpoint(name: str) -> str:
    """A folder's whole path; a hub name as it is."""
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name


def _positive(flag: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise InputError(f"{flag} {value}: must be at least 1")
    return default if value is None else value
