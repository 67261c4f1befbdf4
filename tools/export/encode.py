"""Export of embeddings: runs a frozen encoder over a table of inputs, one shard after the other."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_jax.data.delimited_text import parse_delimiter
from bridge_jax.data.encoder_spec import (
    SPEC_KEY,
    EncoderSpec,
    check_same_encoder,
    describe_length_policy,
    text_of_columns,
)
from bridge_jax.data.files import sha256_of_file
from bridge_jax.data.manifest import read_manifest
from bridge_jax.data.missing import MISSING_VALUES
from bridge_jax.data.shard_journal import Journal, parse_shard
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.batching import encode
from bridge_jax.encoders.from_spec import settings_of
from bridge_jax.encoders.smiles import split_smiles
from bridge_jax.errors import InputError, unknown
from bridge_jax.progress import RateProgress
from bridge_jax.training.prefetch import prefetch

from ..formats.entities import open_entities
from .shards import (
    ExportPlan,
    format_report,
    is_finished,
    plan_export,
    write_export_shard,
    write_sidecar,
)


@dataclass(frozen=True)
class ExportOptions:
    """Options of one export; each is a flag of `tools.export_embeddings`.

    Attributes:
      input: Path of a table, a FASTA or SMILES file, an SDF or a Parquet file.
      type: Node type of the rows, e.g. `gene/protein`.
      encoder: `NAME` or `NAME:CHECKPOINT`, with a name of `bridge_jax.encoders.ENCODERS`.
      output: Folder to write; may hold exports of other node types.
      id_column: Column of ids; default: the first known one of the table.
      text_columns: Columns to encode, joined by ". "; default: those that the encoder reads.
      pooling: Pooling of token states into one vector; default: the encoder's first.
      max_length: Maximum length in tokens or residues; default: the encoder's.
      long: Policy for longer inputs, `truncate`, `windows` or `fail`; default: the encoder's first.
      device: Device of the encoder, `auto`, `cpu` or `cuda`.
      batch_tokens: Padded positions per batch; default: the encoder's.
      dtype: Dtype of the stored vectors.
      shard_records: Number of ids per shard; default: the encoder's.
      shard: `i/n` makes this worker i of n; it encodes every n-th shard.
      overwrite: Whether to replace an export of other input, options or weights.
      format: Format of the input, one of `tools.formats.entities.FORMATS`; default: found.
      delimiter: Field separator of a table, a character or its name; default: found.
      missing_values: Texts that stand for a missing value; default: `MISSING_VALUES`.
      normalise: Whether to scale vectors to unit length.
      like: Specification that the export must follow; default: none.
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
    format: str = ""
    delimiter: str = ""
    missing_values: Sequence[str] = MISSING_VALUES
    normalise: bool = False
    like: EncoderSpec | None = None


def export_embeddings(options: ExportOptions) -> str:
    """Encodes the shards that are missing and writes the sidecar once all shards are finished.

    Args:
      options: Options of the export.

    Returns:
      A report to print.

    Raises:
      InputError: The options do not fit the input or the encoder, or the output folder holds
        another export.
    """
    family, settings = resolve_encoder(options)
    worker, num_workers = parse_shard(options.shard)
    source = Path(options.input)
    entities = open_entities(
        source,
        options.format,
        options.id_column,
        tuple(options.text_columns),
        family.modality,
        parse_delimiter(options.delimiter),
        options.missing_values,
    )
    columns = entities.columns
    if not columns.text:
        raise InputError(f"{source}: no column to read; name it with --text-columns")
    batch_tokens = _positive("--batch-tokens", options.batch_tokens, family.batch_tokens)
    shard_records = _positive("--shard-records", options.shard_records, family.shard_records)
    plan = plan_export(entities, shard_records)
    normalisation = "l2" if options.normalise else "none"
    fingerprint = {
        "type": options.type,
        "input sha256": sha256_of_file(source),
        "--format": entities.format,
        "--delimiter": entities.delimiter,
        "--missing-values": sorted({v.strip().casefold() for v in options.missing_values}),
        "--id-column": columns.id,
        "--text-columns": list(columns.text),
        "--encoder": options.encoder.split(":")[0],
        "checkpoint": _absolute_checkpoint(settings.checkpoint),
        "--pooling": settings.pooling,
        "--max-length": settings.max_length or family.max_length,
        "--long": settings.length_policy,
        "--dtype": options.dtype,
        "--batch-tokens": batch_tokens,
        "--shard-records": shard_records,
    } | ({"--normalise": normalisation} if options.normalise else {})
    with Journal(Path(options.output), options.type) as journal:
        journal.open(fingerprint, plan.num_shards, options.overwrite, worker, num_workers)
        if num_workers == 1:
            journal.remove_temporary_files()
        num_rows = plan.num_rows(range(plan.num_shards))
        _log(f"{options.type}: {num_rows:,} rows of {len(plan.ids):,} {columns.id}s")
        _log(f"encoded columns: {' + '.join(columns.text)}")
        assigned = range(worker, plan.num_shards, num_workers)
        # No model is loaded for an export that is finished already.
        if not all(is_finished(plan, journal, k, check=True) for k in assigned):
            encoder = family.load(settings)
            policy = describe_length_policy(settings.length_policy, encoder.max_length, family.unit)
            provenance = {
                "encoder": f"{encoder.name}@{encoder.digest[:12]}",
                "pooling": f"{settings.pooling}, {policy}",
            }
            spec = EncoderSpec(
                encoder=encoder.name,
                weights=encoder.digest,
                pooling=settings.pooling,
                max_length=encoder.max_length,
                unit=family.unit,
                length_policy=settings.length_policy,
                text=text_of_columns(columns.text),
                normalisation=normalisation,
                dtype=options.dtype,
            )
            if options.like:
                check_same_encoder(options.type, options.like, spec, remedy="name --encoder")
            journal.check_encoder(provenance, options.overwrite)
            # After the check, which with --overwrite drops the shards of another encoder.
            unfinished = [k for k in assigned if not is_finished(plan, journal, k, check=True)]
            is_smiles = family.modality == "smiles"
            encode_shards(
                plan, unfinished, encoder, provenance, spec, batch_tokens, journal, is_smiles
            )
        id_column = "node_index" if columns.id == "node_index" else "node_id"
        table = write_sidecar(plan, journal, options.type, options.dtype, source.name, id_column)
        if table is None:
            total = plan.num_shards
            left = sum(not is_finished(plan, journal, k) for k in range(total))
            return f"{options.type}: this worker is done; {left} of {total} shards are left"
        return format_report(plan, table, journal)


def options_like(dataset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the options of an export that shall follow the encoder of a dataset.

    Args:
      dataset: Dataset directory.
      options: Fields of `ExportOptions`; one that is given stays as it is.

    Raises:
      InputError: The dataset has no such node type, or does not record its encoder.
    """
    spec = read_manifest(dataset).table(options["type"]).encoder_spec
    if spec is None:
        raise InputError(
            f"{dataset}: does not record the encoder of {options['type']}; name it with --encoder"
        )
    family, settings = settings_of(spec)
    filled = {
        "encoder": spec.encoder if family.takes_checkpoint else spec.encoder.split(":")[0],
        "pooling": settings.pooling,
        "max_length": settings.max_length,
        "long": settings.length_policy,
        "dtype": spec.dtype,
        "normalise": spec.normalisation == "l2",
    }
    return {**options, "like": spec} | {k: options.get(k) or v for k, v in filled.items()}


def resolve_encoder(options: ExportOptions) -> tuple[Family, Settings]:
    """Looks up the encoder of an export and fills in its default settings.

    Args:
      options: Options of the export.

    Returns:
      The encoder's entry in the registry, and its settings.

    Raises:
      InputError: The encoder is unknown, or does not have the checkpoint, pooling or length policy.
    """
    name, _, checkpoint = options.encoder.partition(":")
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS, "bridge_jax/encoders")
    family = ENCODERS[name]
    if checkpoint and not family.takes_checkpoint:
        raise InputError(
            f"--encoder {options.encoder}: {name} has only one checkpoint; write --encoder {name}"
        )
    pooling = options.pooling or family.poolings[0]
    if pooling not in family.poolings:
        raise unknown("--pooling", pooling, family.poolings, name)
    length_policy = options.long or family.length_policies[0]
    if length_policy not in family.length_policies:
        raise unknown("--long", length_policy, family.length_policies, name)
    _positive("--max-length", options.max_length, family.max_length)
    return family, Settings(
        encoder=options.encoder,
        checkpoint=checkpoint or family.checkpoint,
        device=options.device,
        max_length=options.max_length,
        length_policy=length_policy,
        pooling=pooling,
    )


def encode_shards(
    plan: ExportPlan,
    shards: Sequence[int],
    encoder: Encoder,
    provenance: Mapping[str, str],
    spec: EncoderSpec,
    batch_tokens: int,
    journal: Journal,
    is_smiles: bool = False,
) -> None:
    """Encodes and writes shards one after the other, and records each in the journal.

    The texts of the next shard are tokenised while the current one is encoded.

    Args:
      plan: Plan of the export.
      shards: Indices of the shards to encode.
      encoder: Loaded encoder.
      provenance: `encoder` and `pooling` as the sidecar records them.
      spec: Specification of the encoder, and dtype of the stored vectors.
      batch_tokens: Padded positions per batch.
      journal: Journal of the export.
      is_smiles: Whether the texts are SMILES, which may have a title after a blank.
    """
    progress = RateProgress(plan.num_rows(shards))
    prepared_shards = prefetch((encoder.prepare(plan.distinct_texts(k)) for k in shards), 1)
    for k, prepared in zip(shards, prepared_shards, strict=True):
        texts = plan.distinct_texts(k)
        vectors = encode(encoder, prepared, batch_tokens)
        journal.remove_temporary_files(k)
        results = dict(zip(texts, vectors, strict=True))
        entry = write_export_shard(plan, k, results, spec, journal)
        num_long = sum(not isinstance(text, str) and text.exceeds_limit for text in prepared)
        num_titles = sum(
            is_smiles and not isinstance(p, str) and bool(split_smiles(text)[1])
            for text, p in zip(texts, prepared, strict=True)
        )
        counts = {"long": num_long, "titles": num_titles}
        journal.write_entry(k, {**provenance, SPEC_KEY: spec.to_json(), **entry, **counts})
        progress.advance(plan.num_rows([k]))
    progress.close()


def _absolute_checkpoint(name: str) -> str:
    """The absolute path of a checkpoint folder; a name on the hub stays as it is."""
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name


def _positive(flag: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise InputError(f"{flag} {value}: must be at least 1")
    return default if value is None else value


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
