"""The shards of an export: which ids each holds, how rows become vectors, and the sidecar."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import NodeTable, encode_ids
from bridge_jax.data.files import write_json
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import DTYPES, Shard, node_layout, write_shard
from bridge_jax.errors import InputError

from ..formats.features import Columns, read_features


@dataclass(frozen=True)
class Plan:
    """What there is to encode, in which shards.

    Attributes:
      ids: distinct, in order of appearance.
      texts: the source rows of each id.
      nameless: rows without an id, as failures.
      shard_records: ids a shard; an id that fails leaves its shard shorter.
    """

    ids: list[str]
    texts: list[list[str]]
    nameless: list[dict[str, str]]
    shard_records: int

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.ids) // self.shard_records)

    def part(self, k: int) -> slice:
        """The ids of shard `k`."""
        return slice(k * self.shard_records, (k + 1) * self.shard_records)

    def distinct(self, k: int) -> list[str]:
        """The texts of shard `k`, each once."""
        return list(dict.fromkeys(text for texts in self.texts[self.part(k)] for text in texts))


def make_plan(path: Path, columns: Columns, shard_records: int) -> Plan:
    """Read the input and group its rows by id.

    Raises:
      InputError: there is no row with an id.
    """
    texts: dict[str, list[str]] = {}
    nameless = []
    for i, row in enumerate(read_features(path, columns)):
        if row.id:
            texts.setdefault(row.id, []).append(row.text)
        else:
            nameless.append({"id": "", "reason": f"row {i + 2} has no {columns.id}"})
    if not texts:
        raise InputError(f"{path}: no row has a {columns.id}")
    return Plan(list(texts), list(texts.values()), nameless, shard_records)


def write_part(
    plan: Plan, k: int, by_text: Mapping[str, np.ndarray | str], dtype: str, journal: Journal
) -> dict[str, Any]:
    """Average the rows of each id of a shard and write it.

    Args:
      plan: what there is to encode.
      k: the shard.
      by_text: for each text of the shard its vector, or why it has none.
      dtype: of the stored vectors.
      journal: names the shard.

    Returns:
      The journal's entry; no shard is written where every id failed.
    """
    means: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    skipped = []
    for node, texts in zip(plan.ids[plan.part(k)], plan.texts[plan.part(k)], strict=True):
        rows = [by_text[t] for t in texts]
        good = [r for r in rows if not isinstance(r, str)]
        bad = [r for r in rows if isinstance(r, str)]
        if good:
            means[node] = np.mean(good, axis=0, dtype=np.float64) if len(good) > 1 else good[0]
            skipped += [{"id": node, "reason": r} for r in bad]
        else:
            reasons[node] = bad[0]
    ids, x = list(means), np.zeros((0, 0), np.float32)
    if means:
        with np.errstate(over="ignore", under="ignore"):
            x = np.stack(list(means.values())).astype(np.float32).astype(DTYPES[dtype])
        finite, empty = np.isfinite(x.astype(np.float32)).all(axis=1), ~x.any(axis=1)
        reasons |= {ids[i]: f"beyond the range of {dtype}" for i in np.flatnonzero(~finite)}
        reasons |= {ids[i]: f"all-zero in {dtype}" for i in np.flatnonzero(empty)}
        ids, x = [i for i in ids if i not in reasons], x[finite & ~empty]
    entry: dict[str, Any] = {
        "shard": None,
        "dim": 0,
        "failed": [{"id": i, "reason": reasons[i]} for i in plan.ids[plan.part(k)] if i in reasons],
        "skipped_rows": [row for row in skipped if row["id"] not in reasons],
    }
    if ids:
        width = max(len(i.encode()) for i in plan.ids)
        columns = {"id": encode_ids(ids, width), "embedding": x}
        layout = node_layout(width, x.shape[1], dtype)
        entry["shard"] = asdict(write_shard(journal.root, journal.shard(k), layout, columns))
        entry["dim"] = x.shape[1]
    return entry


def complete(
    plan: Plan, journal: Journal, node_type: str, dtype: str, source: str, id_column: str
) -> NodeTable | None:
    """Write the sidecar, if every shard of every worker is there.

    Returns:
      The table as written, or None where shards are left.

    Raises:
      InputError: every id failed.
    """
    entries = [journal.read(k) for k in range(plan.shards)]
    done = [e for e in entries if e is not None]
    if len(done) < plan.shards:
        return None
    failed = [f for e in done for f in e["failed"]]
    written = [e for e in done if e["shard"]]
    if not written:
        raise InputError(
            f"every one of {len(plan.ids)} ids failed; the first, {failed[0]['id']!r}: "
            f"{failed[0]['reason']}"
        )
    table = NodeTable(
        name=node_type,
        dim=written[0]["dim"],
        dtype=dtype,
        count=sum(e["shard"]["records"] for e in written),
        id_bytes=max(len(i.encode()) for i in plan.ids),
        shards=tuple(Shard(**e["shard"]) for e in written),
        encoder=done[0]["encoder"],
        pooling=done[0]["pooling"],
        source=source,
        failed=(*plan.nameless, *failed),
    )
    write_json(journal.sidecar, asdict(table) | {"id_column": id_column})
    return table


def report(table: NodeTable, journal: Journal) -> str:
    """The result in words: counts, what was cut, and the reasons of the failures."""
    entries = [e for k in range(journal.total) if (e := journal.read(k))]
    skipped = [s for e in entries for s in e["skipped_rows"]]
    long = sum(e["long"] for e in entries)
    lines = [
        f"{table.name}: {table.count:,} vectors of {table.dim} {table.dtype} by {table.encoder} "
        f"({table.pooling}) in {len(table.shards)} shards",
        f"{journal.sidecar}",
    ]
    if long:
        lines.append(f"{long:,} texts were longer than the limit")
    for rows, what in ((skipped, "rows left out of their id's mean"), (table.failed, "ids failed")):
        by_reason: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            by_reason[row["reason"]].append(row["id"])
        for reason, ids in sorted(by_reason.items(), key=lambda r: -len(r[1])):
            some = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
            lines.append(f"{len(ids):,} {what}: {reason} ({some})")
    return "\n".join(lines)
