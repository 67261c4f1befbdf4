"""The on-disk contract, upper half: the manifest and the parts of a dataset directory.

manifest.json   node types, relations, counts, split rule, sources, sha256 of each shard
nodes/          one fixed-length TFRecord shard set and one table of names for each node type
triples/        the facts of each split
heldout/        the nodes that a split keeps out of training
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bridge_jax.data.files import write_json
from bridge_jax.data.tfrecord import (
    DTYPES,
    TRIPLES_PER_RECORD,
    Layout,
    Shard,
    node_layout,
    read_shard,
    write_shard,
)
from bridge_jax.errors import InputError, unknown

FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")
_ROWS = 2048  # vectors looked at together: they fit into the cache


@dataclass(frozen=True)
class NodeTable:
    """One node type of a dataset: where its frozen embeddings are and what made them.

    A type that only keeps its place among the type ids has `dim` 0, `count` 0 and no shards.
    """

    name: str
    dim: int
    dtype: str
    count: int
    id_bytes: int
    shards: tuple[Shard, ...]
    encoder: str = "unknown"
    pooling: str = "unknown"
    source: str = ""
    licence: str = ""
    failed: tuple[dict[str, str], ...] = ()

    @property
    def layout(self) -> Layout:
        """The records' layout in every shard of this table."""
        return node_layout(self.id_bytes, self.dim, self.dtype)


@dataclass(frozen=True)
class TripleFile:
    """The facts (or held-out nodes) of one split: how many, and in which shards."""

    count: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Manifest:
    """What a dataset directory holds. Global node ids run through `node_types` in order."""

    name: str
    node_types: tuple[NodeTable, ...]
    relations: tuple[str, ...]
    triple_types: tuple[dict[str, Any], ...]
    triples: dict[str, TripleFile]
    heldout: dict[str, TripleFile]
    split: dict[str, Any]
    counts: dict[str, int]
    sources: tuple[dict[str, str], ...] = ()
    format_version: int = FORMAT_VERSION

    def hash(self) -> str:
        """A sha256 over the whole manifest, and so over every shard of the dataset."""
        return _hash(asdict(self))

    def files(self) -> set[str]:
        """Every shard of the dataset, relative to its directory."""
        files = (*self.triples.values(), *self.heldout.values())
        parts: tuple[NodeTable | TripleFile, ...] = (*self.node_types, *files)
        return {shard.file for part in parts for shard in part.shards}

    def table(self, name: str) -> NodeTable:
        """The node table of a type.

        Raises:
          InputError: the dataset has no such type.
        """
        for table in self.node_types:
            if table.name == name:
                return table
        raise unknown("node type", name, [t.name for t in self.node_types], "this dataset")


def file_name(node_type: str) -> str:
    """A node type as a file name: `gene/protein` becomes `gene_protein`."""
    return node_type.replace("/", "_").replace(" ", "_")


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _whole(value: Any, limit: int = 1 << 40) -> int:
    """A count from JSON, or a `TypeError`."""
    if type(value) is not int or not 0 <= value <= limit:
        raise TypeError(f"{value!r} is no whole number from 0 to {limit}")
    return value


def _shards(items: Any) -> tuple[Shard, ...]:
    return tuple(Shard(str(i["file"]), _whole(i["records"]), str(i["sha256"])) for i in items)


def _triple_files(items: Mapping[str, Any]) -> dict[str, TripleFile]:
    return {k: TripleFile(_whole(v["count"]), _shards(v["shards"])) for k, v in items.items()}


def node_table_from_json(value: Mapping[str, Any]) -> NodeTable:
    """Rebuild a `NodeTable` from its JSON form.

    Raises:
      InputError: an unknown dtype.
      KeyError: a field is missing.
      TypeError: a field is unknown or of the wrong type.
    """
    limits = {"dim": 1 << 20, "count": 1 << 40, "id_bytes": 1 << 16}
    fields = dict(value) | {k: _whole(value[k], limit) for k, limit in limits.items()}
    fields |= {"shards": _shards(value["shards"]), "failed": tuple(value.get("failed", ()))}
    table = NodeTable(**fields)
    if table.dtype not in DTYPES:
        raise unknown("dtype", str(table.dtype), DTYPES, "this format")
    return table


def read_manifest(root: str | Path) -> Manifest:
    """Read and check `manifest.json`.

    Args:
      root: the dataset directory.

    Raises:
      InputError: there is no manifest, it was changed, or it cannot be understood.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        why = "no manifest.json" if Path(root).is_dir() else "there is no such folder"
        raise InputError(
            f"{root}: not a dataset directory ({why}); make one with python -m tools.import_graph"
        )
    try:
        value = json.loads(path.read_bytes())
        checksum, version = value.pop("sha256", None), value["format_version"]
        if version != FORMAT_VERSION:
            raise InputError(f"{path}: format version {version}; this code reads {FORMAT_VERSION}")
        if checksum != _hash(value):
            raise InputError(
                f"{path}: the manifest was changed after it was written (its sha256 differs); "
                "restore it or write the dataset again"
            )
        return Manifest(
            name=value["name"],
            node_types=tuple(node_table_from_json(t) for t in value["node_types"]),
            relations=tuple(value["relations"]),
            triple_types=tuple(value["triple_types"]),
            triples=_triple_files(value["triples"]),
            heldout=_triple_files(value["heldout"]),
            split=dict(value["split"]),
            counts=dict(value["counts"]),
            sources=tuple(value.get("sources", ())),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        reason = f"field {e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{path}: the manifest cannot be read: {reason}") from e


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write `manifest.json` with its own sha256, atomically; its presence means complete."""
    value = asdict(manifest)
    write_json(root / "manifest.json", value | {"sha256": _hash(value)})


def shard_file(folder: str, name: str, index: int, total: int) -> str:
    """`nodes/gene_protein-00000-of-00008.tfrecord`."""
    return f"{folder}/{file_name(name)}-{index:05d}-of-{total:05d}.tfrecord"


def encode_ids(ids: list[str], width: int) -> np.ndarray:
    """Ids as zero-padded UTF-8, uint8 `[n, width]`."""
    raw = b"".join(i.encode().ljust(width, b"\0") for i in ids)
    return np.frombuffer(raw, np.uint8).reshape(len(ids), width)


def decode_ids(raw: UInt8[np.ndarray, "n width"]) -> list[str]:
    """The inverse of `encode_ids`.

    Raises:
      UnicodeDecodeError: bytes that `encode_ids` cannot have written.
    """
    padded = np.ascontiguousarray(raw).view(f"S{raw.shape[1]}").ravel()
    return [name.decode() for name in padded.tolist()]


def vector_faults(x: np.ndarray) -> list[tuple[int, str]]:
    """Find the rows that no frozen encoder should produce.

    Args:
      x: `[n, dim]` in one of `DTYPES`; may be a strided view.

    Returns:
      (row, what is wrong with it), in order.
    """
    # Without its sign bit a float sorts like an unsigned integer; at least infinity: not finite.
    bits = np.dtype(f"u{x.dtype.itemsize}")
    infinity = np.array(np.inf, x.dtype).view(bits)
    unsigned = ~np.array(-0.0, x.dtype).view(bits)
    found = []
    for start in range(0, len(x), _ROWS):
        part = np.ascontiguousarray(x[start : start + _ROWS]).view(bits) & unsigned
        largest = part.max(axis=1, initial=0)
        for i in np.flatnonzero((largest >= infinity) | (largest == 0)).tolist():
            what = "an all-zero vector" if largest[i] == 0 else "a NaN or infinite value"
            found.append((start + i, what))
    return found


def check_embeddings(ids: list[str], x: np.ndarray, where: str) -> None:
    """Refuse values that no frozen encoder should produce.

    Args:
      ids: one id a row, to name the offender.
      x: `[n, dim]`, one of `DTYPES`.
      where: file or table, for the message.

    Raises:
      InputError: a NaN, an infinity, or an all-zero vector.
    """
    faults = vector_faults(x)
    if faults:
        i, what = faults[0]
        more = f" (and {len(faults) - 1} more bad records)" if len(faults) > 1 else ""
        raise InputError(
            f"{where}: record {i}, id {ids[i]!r}: {what}{more}; drop the id or encode it again"
        )


def check_nodes(name: str, ids: list[str], x: np.ndarray) -> str:
    """Check one node type's embeddings before they are written.

    Args:
      name: the node type.
      ids: one id a row of `x`.
      x: `[n, dim]`.

    Returns:
      The name of the dtype in `DTYPES`.

    Raises:
      InputError: wrong dtype or shape; duplicate, empty or unprintable ids; NaN or zero vectors.
    """
    dtype = next((k for k, v in DTYPES.items() if v == x.dtype), None)
    if dtype is None or x.ndim != 2 or len(x) != len(ids) or not x.size:
        raise InputError(
            f"{name}: embeddings must be a non-empty [n, dim] array of {', '.join(DTYPES)} with "
            f"one id a row; got {x.dtype} {x.shape} and {len(ids)} ids"
        )
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"{name}: id {twice!r} occurs more than once; average or drop its rows")
    for bad in (i for i in ids if not i or not i.isprintable()):
        raise InputError(f"{name}: id {bad!r} is empty or has a control character; rename it")
    check_embeddings(ids, x, name)
    return dtype


def write_nodes(
    root: Path,
    name: str,
    ids: list[str],
    x: np.ndarray,
    *,
    shard_records: int = 65_536,
    **about: Any,
) -> NodeTable:
    """Write one node type's embeddings as shards.

    Args:
      root: the dataset directory.
      name: the node type.
      ids: unique ids, one a row of `x`.
      x: `[n, dim]`; float32, float16 or bfloat16, kept as it is.
      shard_records: records a shard.
      **about: `encoder`, `pooling`, `source`, `licence`, `failed` of `NodeTable`.

    Returns:
      The manifest's entry.

    Raises:
      InputError: see `check_nodes`.
    """
    dtype = check_nodes(name, ids, x)
    width = max(len(i.encode()) for i in ids)
    total = -(-len(ids) // shard_records)
    table = NodeTable(name, x.shape[1], dtype, len(ids), width, (), **about)
    shards = []
    for k in range(total):
        part = slice(k * shard_records, (k + 1) * shard_records)
        columns = {"id": encode_ids(ids[part], width), "embedding": x[part]}
        shards.append(write_shard(root, shard_file("nodes", name, k, total), table.layout, columns))
    return replace(table, shards=tuple(shards))


def read_nodes(root: str | Path, table: NodeTable) -> tuple[list[str], np.ndarray]:
    """Read one node type.

    Args:
      root: the dataset directory.
      table: its manifest entry.

    Returns:
      Ids and `[count, dim]` embeddings in the stored dtype. With one shard the array is a strided
      view on the file; with several it is a copy. A type without embeddings has no nodes.

    Raises:
      InputError: a shard is damaged, or holds NaN or all-zero vectors.
    """
    ids: list[str] = []
    parts = []
    for shard in table.shards:
        columns = read_shard(Path(root), shard, table.layout)
        try:
            names = decode_ids(columns["id"])
        except UnicodeDecodeError as e:
            raise InputError(f"{Path(root) / shard.file}: an id is not UTF-8: {e}") from e
        x = columns["embedding"].view(DTYPES[table.dtype])
        check_embeddings(names, x, str(Path(root) / shard.file))
        ids += names
        parts.append(x)
    if len(ids) != table.count:
        raise InputError(f"{root}: {table.name} has {len(ids)} records, the manifest {table.count}")
    if not parts:
        return [], np.zeros((0, table.dim), DTYPES[table.dtype])
    return ids, parts[0] if len(parts) == 1 else np.concatenate(parts)


def write_blocks(
    root: Path, folder: str, name: str, layout: Layout, columns: Mapping[str, np.ndarray]
) -> TripleFile:
    """Write int32 columns of one length as blocks of `TRIPLES_PER_RECORD`, padded with -1."""
    count = len(next(iter(columns.values())))
    blocks = max(1, -(-count // TRIPLES_PER_RECORD))
    padded = {}
    for key, values in columns.items():
        full = np.full(blocks * TRIPLES_PER_RECORD, -1, "<i4")
        full[:count] = values
        padded[key] = full.reshape(blocks, TRIPLES_PER_RECORD)
    shard = write_shard(root, shard_file(folder, name, 0, 1), layout, padded)
    return TripleFile(count, (shard,))


def read_blocks(root: str | Path, file: TripleFile, layout: Layout) -> dict[str, np.ndarray]:
    """Read the columns written by `write_blocks` as int32 `[count]`.

    Raises:
      InputError: a shard is damaged or does not hold `count` values.
    """
    parts = [read_shard(Path(root), s, layout) for s in file.shards]
    out = {}
    for name, _ in layout.features:
        flat = np.concatenate([np.ascontiguousarray(p[name]).view("<i4").ravel() for p in parts])
        if (
            len(flat) < file.count
            or (flat[: file.count] < 0).any()
            or (flat[file.count :] != -1).any()
        ):
            raise InputError(
                f"{Path(root) / file.shards[0].file}: column {name!r} does not hold the "
                f"{file.count} values that the manifest counts"
            )
        out[name] = flat[: file.count]
    return out
