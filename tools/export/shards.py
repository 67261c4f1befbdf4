"""Shards of an embedding export: assignment of ids, averaging of rows, sidecar and report."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bridge_jax.data.dataset import encode_ids
from bridge_jax.data.encoder_spec import SPEC_KEY, EncoderSpec, normalise_rows, spec_from_json
from bridge_jax.data.findings import Findings, num_rows
from bridge_jax.data.manifest import NodeTable
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import DTYPES, Shard, node_layout, write_shard
from bridge_jax.errors import InputError
from bridge_jax.formatting import escape_control_characters

from ..formats.delimited import Finding
from ..formats.entities import Entities


class Failure(str):
    """Reason why a row has no text, in place of the text."""


_FIELDS = {"shard", "dim", "failed", "skipped_rows", "long", "encoder", "pooling"}  # of an entry


@dataclass(frozen=True)
class ExportPlan:
    """Inputs of an export, grouped by id and cut into shards.

    Attributes:
      ids: Distinct ids, in order of appearance.
      texts: Texts of each id, one per source row; a `Failure` in place of a missing one.
      rejected_rows: Failure entries (`id`, `reason`) of source rows that give no text of an id.
      notices: Oddities of the source that cost no row.
      shard_records: Number of ids per shard. Ids that cannot be encoded get no record, so a shard
        may hold fewer.
    """

    ids: list[str]
    texts: list[list[str]]
    rejected_rows: list[dict[str, str]]
    notices: list[Finding]
    shard_records: int

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-len(self.ids) // self.shard_records)

    @cached_property
    def id_bytes(self) -> int:
        """Length of the longest id in UTF-8 bytes."""
        return max(len(i.encode()) for i in self.ids)

    def ids_of(self, shard: int) -> list[str]:
        """Returns the ids of a shard."""
        return self.ids[self._slice(shard)]

    def texts_of(self, shard: int) -> list[list[str]]:
        """Returns the texts of each id of a shard."""
        return self.texts[self._slice(shard)]

    def num_rows(self, shards: Sequence[int]) -> int:
        """Returns the number of source rows of some shards."""
        return sum(len(texts) for shard in shards for texts in self.texts_of(shard))

    def distinct_texts(self, shard: int) -> list[str]:
        """Returns the texts of a shard without duplicates, in order of appearance."""
        texts = (text for texts in self.texts_of(shard) for text in texts)
        return list(dict.fromkeys(text for text in texts if not isinstance(text, Failure)))

    def _slice(self, shard: int) -> slice:
        return slice(shard * self.shard_records, (shard + 1) * self.shard_records)


def _reason(finding: Finding) -> str:
    later = f" and {finding.num_rows - 1:,} later rows" if finding.num_rows > 1 else ""
    return f"row {finding.row}{later}: {finding.reason}"


def plan_export(entities: Entities, shard_records: int) -> ExportPlan:
    """Reads a file of entities and groups its rows by id.

    Args:
      entities: The file.
      shard_records: Number of ids per shard.

    Returns:
      The plan of the export; every row of the file is in it.

    Raises:
      InputError: The file cannot be read, or no row has an id.
    """
    texts: dict[str, list[str]] = {}
    findings = Findings()
    id_column = entities.columns.id
    file = entities.path.name
    for row in entities.read(findings):
        if row.id and not row.id.isprintable():
            findings.append(Finding(file, row.row, "an id with a control character", row.id))
        elif row.id:
            texts.setdefault(row.id, []).append(Failure(row.reason) if row.reason else row.text)
        else:
            findings.append(Finding(file, row.row, f"no {id_column}", row.name))
    rejects = sorted((f for f in findings if f.num_rows), key=lambda f: f.row)
    if not texts:
        counts: Counter[str] = Counter()
        for f in rejects:
            counts[f.reason] += f.num_rows
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in counts.most_common(3))
        first = f" (first: row {rejects[0].row})" if rejects else ""
        raise InputError(
            f"{entities.path}: none of {num_rows(rejects):,} rows can be used"
            f"{f': {reasons}{first}' if rejects else ', because there are none'}"
        )
    return ExportPlan(
        list(texts),
        list(texts.values()),
        [{"id": "", "reason": _reason(f)} for f in rejects],
        [f for f in findings if not f.num_rows],
        shard_records,
    )


def write_export_shard(
    plan: ExportPlan,
    shard: int,
    results: Mapping[str, np.ndarray | str],
    spec: EncoderSpec,
    journal: Journal,
) -> dict[str, Any]:
    """Averages the vectors of each id of a shard and writes the shard.

    Args:
      plan: Plan of the export.
      shard: Index of the shard.
      results: Vector `[dim]` of each distinct text of the shard, or the reason why it has none.
      spec: Dtype and normalisation of the stored vectors.
      journal: Journal of the export; names the shard's file.

    Returns:
      The journal entry of the shard: `shard` (file, checksum and number of records; None if every
      id failed, in which case no file is written), `dim`, `failed` ids, `skipped_rows`, and the
      number of ids in the plan (`rows`) with a digest of those in the file.
    """
    dtype = spec.dtype
    means: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    skipped_rows = []
    for node, texts in zip(plan.ids_of(shard), plan.texts_of(shard), strict=True):
        row_results = [t if isinstance(t, Failure) else results[t] for t in texts]
        vectors = [r for r in row_results if not isinstance(r, str)]
        failures = [r for r in row_results if isinstance(r, str)]
        if vectors:
            # One vector is kept as it is; a mean in float64 is rounded once.
            mean = np.mean(vectors, axis=0, dtype=np.float64) if len(vectors) > 1 else vectors[0]
            means[node] = mean
            skipped_rows += [{"id": node, "reason": reason} for reason in failures]
        else:
            reasons[node] = failures[0]
    ids, x = list(means), np.zeros((0, 0), np.float32)
    if means:
        with np.errstate(over="ignore", under="ignore"):
            x = np.stack(list(means.values())).astype(np.float32)
            x = normalise_rows(x, spec.normalisation).astype(DTYPES[dtype])
        finite, zero = np.isfinite(x.astype(np.float32)).all(axis=1), ~x.any(axis=1)
        reasons |= {ids[i]: f"beyond the range of {dtype}" for i in np.flatnonzero(~finite)}
        reasons |= {ids[i]: f"all-zero in {dtype}" for i in np.flatnonzero(zero)}
        ids, x = [i for i in ids if i not in reasons], x[finite & ~zero]
    entry: dict[str, Any] = {
        "rows": len(plan.ids_of(shard)),
        "ids_sha256": _sha256(ids),
        "shard": None,
        "dim": 0,
        "failed": [{"id": i, "reason": reasons[i]} for i in plan.ids_of(shard) if i in reasons],
        "skipped_rows": [row for row in skipped_rows if row["id"] not in reasons],
    }
    if ids:
        columns = {"id": encode_ids(ids, plan.id_bytes), "embedding": x}
        layout = node_layout(plan.id_bytes, x.shape[1], dtype)
        entry["shard"] = asdict(
            write_shard(journal.root, journal.shard_path(shard), layout, columns)
        )
        entry["dim"] = x.shape[1]
    return entry


def is_finished(plan: ExportPlan, journal: Journal, shard: int, check: bool = False) -> bool:
    """Returns whether a shard is finished and its entry accounts for every id of the plan.

    Args:
      plan: Plan of the export.
      journal: Journal of the export.
      shard: Index of the shard.
      check: Whether to compare the shard with its checksum, default False.
    """
    entry = journal.read_entry(shard, check)
    if entry is None or not entry.keys() >= _FIELDS:
        return False
    try:
        failed = {failure["id"] for failure in entry["failed"]}
    except (TypeError, KeyError):
        return False
    num_records = entry["shard"]["records"] if entry["shard"] else 0
    ids = [i for i in plan.ids_of(shard) if i not in failed]
    if len(ids) != num_records or len(ids) + len(failed) != len(plan.ids_of(shard)):
        return False
    return bool(entry.get("ids_sha256", _sha256(ids)) == _sha256(ids))


def _sha256(ids: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()


def write_sidecar(
    plan: ExportPlan, journal: Journal, node_type: str, dtype: str, source: str, id_column: str
) -> NodeTable | None:
    """Writes the sidecar of an export, provided that every shard is finished.

    Args:
      plan: Plan of the export.
      journal: Journal of the export.
      node_type: Node type of the ids.
      dtype: Dtype of the stored vectors.
      source: Name of the input file.
      id_column: `node_id` or `node_index`, the column that the ids are matched with on import.

    Returns:
      The table that the sidecar describes; None if a shard is not finished.

    Raises:
      InputError: No id could be encoded.
    """
    if not all(is_finished(plan, journal, k) for k in range(plan.num_shards)):
        return None
    entries = [e for k in range(plan.num_shards) if (e := journal.read_entry(k)) is not None]
    if len(entries) < plan.num_shards:
        return None
    failed = [failure for e in entries for failure in e["failed"]]
    shards = [Shard(**e["shard"]) for e in entries if e["shard"]]
    if not shards:
        raise InputError(
            f"all {len(plan.ids)} ids failed; the first, {failed[0]['id']!r}: {failed[0]['reason']}"
        )
    table = NodeTable(
        name=node_type,
        dim=max(e["dim"] for e in entries),
        dtype=dtype,
        count=sum(shard.records for shard in shards),
        id_bytes=plan.id_bytes,
        shards=tuple(shards),
        encoder=entries[0]["encoder"],
        pooling=entries[0]["pooling"],
        source=source,
        failed=(*plan.rejected_rows, *failed),
        # Shards of an earlier version have no specification.
        encoder_spec=spec_from_json(entries[0].get(SPEC_KEY)),
    )
    journal.complete(table.to_json() | {"id_column": id_column})
    return table


def format_report(plan: ExportPlan, table: NodeTable, journal: Journal) -> str:
    """Formats the result of an export: counts, truncated texts, and failures by reason.

    Args:
      plan: Plan of the export.
      table: The table that the sidecar describes.
      journal: Journal of the export.
    """
    entries = [e for k in range(journal.num_shards) if (e := journal.read_entry(k))]
    skipped_rows = [row for e in entries for row in e["skipped_rows"]]
    num_long = sum(e["long"] for e in entries)
    num_titles = sum(e.get("titles", 0) for e in entries)
    failed_ids = {failure["id"] for failure in table.failed}
    num_failed = len(plan.rejected_rows) + len(skipped_rows)
    num_failed += sum(
        len(texts) for i, texts in zip(plan.ids, plan.texts, strict=True) if i in failed_ids
    )
    num_rows = len(plan.rejected_rows) + sum(map(len, plan.texts))
    lines = [
        f"{table.name}: {table.count:,} vectors of {table.dim} {table.dtype} by {table.encoder} "
        f"({table.pooling}) in {len(table.shards)} shards",
        f"{journal.sidecar}",
        f"{table.source}: {num_rows:,} rows = {num_rows - num_failed:,} encoded + {num_failed:,} "
        "rejected or failed",
    ]
    if num_long:
        lines.append(f"{num_long:,} texts were longer than the limit")
    if num_titles:
        lines.append(f"{num_titles:,} SMILES were cut at the first blank: a title or CXSMILES")
    lines += _count_reasons(
        [{"id": f"row {f.row}", "reason": f.reason} for f in plan.notices], "rows with a notice"
    )
    lines += _count_reasons(skipped_rows, "rows left out of their id's mean")
    lines += _count_reasons(map(_by_row, plan.rejected_rows), "rows rejected")
    lines += _count_reasons(table.failed[len(plan.rejected_rows) :], "ids failed")
    return "\n".join(map(escape_control_characters, lines))


def _by_row(failure: Mapping[str, str]) -> dict[str, str]:
    """Moves the row number of a rejected row from its reason to its id."""
    row, _, reason = failure["reason"].partition(": ")
    return {"id": row, "reason": reason}


def _count_reasons(failures: Iterable[Mapping[str, str]], noun: str) -> list[str]:
    """One line per reason, the most frequent first, with up to three ids as examples."""
    ids_of: dict[str, list[str]] = defaultdict(list)
    for failure in failures:
        ids_of[failure["reason"]].append(failure["id"])
    return [
        f"{len(ids):,} {noun}: {reason} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
        for reason, ids in sorted(ids_of.items(), key=lambda item: -len(item[1]))
    ]
