"""Shards of an embedding export: assignment of ids, averaging of rows, sidecar and report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import encode_ids
from bridge_jax.data.files import write_json
from bridge_jax.data.manifest import NodeTable
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import DTYPES, Shard, node_layout, write_shard
from bridge_jax.errors import InputError

from ..formats.features import FeatureColumns, read_features


@dataclass(frozen=True)
class ExportPlan:
    """Inputs of an export, grouped by id and cut into shards.

    Attributes:
      ids: Distinct ids, in order of appearance.
      texts: Texts of each id, one per source row.
      rows_without_id: Failure entries (`id`, `reason`) of source rows without an id.
      shard_records: Number of ids per shard. Ids that cannot be encoded get no record, so a shard
        may hold fewer.
    """

    ids: list[str]
    texts: list[list[str]]
    rows_without_id: list[dict[str, str]]
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
        return list(dict.fromkeys(text for texts in self.texts_of(shard) for text in texts))

    def _slice(self, shard: int) -> slice:
        return slice(shard * self.shard_records, (shard + 1) * self.shard_records)


def plan_export(path: Path, columns: FeatureColumns, shard_records: int) -> ExportPlan:
    """Reads a feature table and groups its rows by id.

    Args:
      path: CSV file with a header, plain or gzipped.
      columns: Columns to read.
      shard_records: Number of ids per shard.

    Returns:
      The plan of the export.

    Raises:
      InputError: The file is missing, or no row has an id.
    """
    texts: dict[str, list[str]] = {}
    rows_without_id = []
    for i, row in enumerate(read_features(path, columns)):
        if row.id:
            texts.setdefault(row.id, []).append(row.text)
        else:
            rows_without_id.append({"id": "", "reason": f"row {i + 2} has no {columns.id}"})
    if not texts:
        raise InputError(f"{path}: no row has a {columns.id}")
    return ExportPlan(list(texts), list(texts.values()), rows_without_id, shard_records)


def write_export_shard(
    plan: ExportPlan,
    shard: int,
    results: Mapping[str, np.ndarray | str],
    dtype: str,
    journal: Journal,
) -> dict[str, Any]:
    """Averages the vectors of each id of a shard and writes the shard.

    Args:
      plan: Plan of the export.
      shard: Index of the shard.
      results: Vector `[dim]` of each distinct text of the shard, or the reason why it has none.
      dtype: Dtype of the stored vectors.
      journal: Journal of the export; names the shard's file.

    Returns:
      The journal entry of the shard: `shard` (file, checksum and number of records; None if every
      id failed, in which case no file is written), `dim`, `failed` ids and `skipped_rows`.
    """
    means: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    skipped_rows = []
    for node, texts in zip(plan.ids_of(shard), plan.texts_of(shard), strict=True):
        row_results = [results[text] for text in texts]
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
            x = np.stack(list(means.values())).astype(np.float32).astype(DTYPES[dtype])
        finite, zero = np.isfinite(x.astype(np.float32)).all(axis=1), ~x.any(axis=1)
        reasons |= {ids[i]: f"beyond the range of {dtype}" for i in np.flatnonzero(~finite)}
        reasons |= {ids[i]: f"all-zero in {dtype}" for i in np.flatnonzero(zero)}
        ids, x = [i for i in ids if i not in reasons], x[finite & ~zero]
    entry: dict[str, Any] = {
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
        failed=(*plan.rows_without_id, *failed),
    )
    write_json(journal.sidecar, asdict(table) | {"id_column": id_column})
    return table


def format_report(table: NodeTable, journal: Journal) -> str:
    """Formats the result of an export: counts, truncated texts, and failures by reason."""
    entries = [e for k in range(journal.num_shards) if (e := journal.read_entry(k))]
    skipped_rows = [row for e in entries for row in e["skipped_rows"]]
    num_long = sum(e["long"] for e in entries)
    lines = [
        f"{table.name}: {table.count:,} vectors of {table.dim} {table.dtype} by {table.encoder} "
        f"({table.pooling}) in {len(table.shards)} shards",
        f"{journal.sidecar}",
    ]
    if num_long:
        lines.append(f"{num_long:,} texts were longer than the limit")
    lines += _count_reasons(skipped_rows, "rows left out of their id's mean")
    lines += _count_reasons(table.failed, "ids failed")
    return "\n".join(lines)


def _count_reasons(failures: Sequence[Mapping[str, str]], noun: str) -> list[str]:
    """One line per reason, the most frequent first, with up to three ids as examples."""
    ids_of: dict[str, list[str]] = defaultdict(list)
    for failure in failures:
        ids_of[failure["reason"]].append(failure["id"])
    return [
        f"{len(ids):,} {noun}: {reason} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
        for reason, ids in sorted(ids_of.items(), key=lambda item: -len(item[1]))
    ]
