"""Node embeddings and triples of a dataset directory, as TFRecord shards.

The layout of the directory is in `bridge_jax.data.manifest`, the byte format of the shards in
`bridge_jax.data.tfrecord`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bridge_jax.data.manifest import NodeTable, SplitFile, shard_file
from bridge_jax.data.tfrecord import (
    DTYPES,
    TRIPLES_PER_RECORD,
    Layout,
    check_sizes,
    read_shard,
    stream_shard,
    write_shard,
)
from bridge_jax.errors import InputError

_CHECK_ROWS = 2048  # vectors checked at a time, so that they stay in the cache


def encode_ids(ids: list[str], width: int) -> UInt8[np.ndarray, "n width"]:
    """Encodes ids as UTF-8, padded with zeros to `width` bytes."""
    raw = b"".join(i.encode().ljust(width, b"\0") for i in ids)
    return np.frombuffer(raw, np.uint8).reshape(len(ids), width)


def decode_ids(raw: UInt8[np.ndarray, "n width"]) -> list[str]:
    """Decodes the result of `encode_ids`.

    Raises:
      UnicodeDecodeError: An id is not UTF-8.
    """
    padded = np.ascontiguousarray(raw).view(f"S{raw.shape[1]}").ravel()
    return [name.decode() for name in padded.tolist()]


def vector_faults(x: np.ndarray) -> list[tuple[int, str]]:
    """Finds the rows that have a NaN or an infinity, or that are all zero.

    Args:
      x: Embeddings `[n, dim]` of a dtype in `DTYPES`; may be a strided view.

    Returns:
      Row and description of each fault, in order.
    """
    # Without its sign bit, a float sorts like an unsigned integer; NaNs sort above infinity.
    bits = np.dtype(f"u{x.dtype.itemsize}")
    infinity = np.array(np.inf, x.dtype).view(bits)
    unsigned = ~np.array(-0.0, x.dtype).view(bits)
    faults = []
    for start in range(0, len(x), _CHECK_ROWS):
        rows = np.ascontiguousarray(x[start : start + _CHECK_ROWS]).view(bits) & unsigned
        largest = rows.max(axis=1, initial=0)
        for i in np.flatnonzero((largest >= infinity) | (largest == 0)).tolist():
            what = "an all-zero vector" if largest[i] == 0 else "a NaN or infinite value"
            faults.append((start + i, what))
    return faults


def check_embeddings(ids: list[str], x: np.ndarray, where: str) -> None:
    """Checks that all embeddings are finite and none is zero.

    Args:
      ids: Id of each row.
      x: Embeddings `[n, dim]` of a dtype in `DTYPES`.
      where: File or table, for the error message.

    Raises:
      InputError: A row has a NaN or an infinity, or is all zero.
    """
    faults = vector_faults(x)
    if faults:
        i, what = faults[0]
        more = f" (and {len(faults) - 1} more bad records)" if len(faults) > 1 else ""
        raise InputError(
            f"{where}: record {i}, id {ids[i]!r}: {what}{more}; drop the id or encode it again"
        )


def check_nodes(name: str, ids: list[str], x: np.ndarray) -> str:
    """Checks the ids and embeddings of one node type before they are written.

    Args:
      name: Node type.
      ids: Id of each row.
      x: Embeddings `[n, dim]`.

    Returns:
      Name of the dtype in `DTYPES`.

    Raises:
      InputError: The dtype or shape is wrong; an id is repeated, empty or not printable; or a row
        has a NaN or an infinity, or is all zero.
    """
    dtype = next((dtype_name for dtype_name, value in DTYPES.items() if value == x.dtype), None)
    if dtype is None or x.ndim != 2 or len(x) != len(ids) or not x.size:
        raise InputError(
            f"{name}: embeddings must be a non-empty [n, dim] array of {', '.join(DTYPES)} with "
            f"one id per row; got {x.dtype} {x.shape} and {len(ids)} ids"
        )
    check_ids(ids, name)
    check_embeddings(ids, x, name)
    return dtype


def check_ids(ids: list[str], where: str) -> None:
    """Checks that ids are distinct, printable and not empty.

    Args:
      ids: The ids.
      where: Node type or file, for the error message.

    Raises:
      InputError: An id is repeated, empty or not printable.
    """
    if len(set(ids)) != len(ids):
        repeated = Counter(ids).most_common(1)[0][0]
        raise InputError(
            f"{where}: id {repeated!r} occurs more than once; average or drop its rows"
        )
    for bad in (i for i in ids if not i or not i.isprintable()):
        raise InputError(f"{where}: id {bad!r} is empty or has a control character; rename it")


def write_nodes(
    root: Path,
    name: str,
    ids: list[str],
    x: np.ndarray,
    *,
    shard_records: int = 65_536,
    **metadata: Any,
) -> NodeTable:
    """Writes the ids and embeddings of one node type as shards.

    Args:
      root: Dataset directory.
      name: Node type.
      ids: Unique id of each row.
      x: Embeddings `[n, dim]`; float32, float16 or bfloat16, stored without conversion.
      shard_records: Number of records in a shard, default 65,536.
      **metadata: `encoder`, `pooling`, `source`, `licence` and `failed` of `NodeTable`.

    Returns:
      The manifest's entry.

    Raises:
      InputError: The ids or embeddings fail `check_nodes`.
    """
    dtype = check_nodes(name, ids, x)
    width = max(len(i.encode()) for i in ids)
    num_shards = -(-len(ids) // shard_records)
    table = NodeTable(name, x.shape[1], dtype, len(ids), width, (), **metadata)
    shards = []
    for k in range(num_shards):
        rows = slice(k * shard_records, (k + 1) * shard_records)
        columns = {"id": encode_ids(ids[rows], width), "embedding": x[rows]}
        file = shard_file("nodes", name, k, num_shards)
        shards.append(write_shard(root, file, table.layout, columns))
    return replace(table, shards=tuple(shards))


def read_nodes(root: str | Path, table: NodeTable) -> tuple[list[str], np.ndarray]:
    """Reads the ids and embeddings of one node type.

    Args:
      root: Dataset directory.
      table: The manifest's entry.

    Returns:
      Ids, and embeddings `[count, dim]` in the stored dtype. Both are empty for a node type without
      embeddings.

    Raises:
      InputError: A shard is damaged, a row has a NaN or an infinity or is all zero, or an id is
        repeated, empty or not printable.
    """
    ids: list[str] = []
    if sum(shard.records for shard in table.shards) != table.count:
        raise InputError(f"{root}: the shards of {table.name} do not hold {table.count} records")
    check_sizes(Path(root), table.shards, table.layout)
    embeddings = np.empty((table.count, table.dim), DTYPES[table.dtype])
    for shard in table.shards:
        path = Path(root) / shard.file
        start = len(ids)
        for columns in stream_shard(Path(root), shard, table.layout):
            rows = slice(len(ids), len(ids) + len(columns["id"]))
            embeddings[rows] = columns["embedding"].view(DTYPES[table.dtype])
            try:
                ids += decode_ids(columns["id"])
            except UnicodeDecodeError as e:
                raise InputError(f"{path}: an id is not UTF-8: {e}") from e
        check_embeddings(ids[start:], embeddings[start : len(ids)], str(path))
    check_ids(ids, f"{root}: {table.name}")
    return ids, embeddings


def write_columns(
    root: Path, folder: str, name: str, layout: Layout, columns: Mapping[str, np.ndarray]
) -> SplitFile:
    """Writes int32 columns as a shard with `TRIPLES_PER_RECORD` values per record, padded with -1.

    Args:
      root: Dataset directory.
      folder: `triples` or `heldout`.
      name: Split.
      layout: `triple_layout()` or `heldout_layout()`.
      columns: Non-negative values `[count]` of each feature.

    Returns:
      The manifest's entry.
    """
    count = len(next(iter(columns.values())))
    num_records = max(1, -(-count // TRIPLES_PER_RECORD))
    records = {}
    for key, values in columns.items():
        padded = np.full(num_records * TRIPLES_PER_RECORD, -1, "<i4")
        padded[:count] = values
        records[key] = padded.reshape(num_records, TRIPLES_PER_RECORD)
    shard = write_shard(root, shard_file(folder, name, 0, 1), layout, records)
    return SplitFile(count, (shard,))


def read_columns(root: str | Path, file: SplitFile, layout: Layout) -> dict[str, np.ndarray]:
    """Reads the columns that `write_columns` wrote.

    Args:
      root: Dataset directory.
      file: The manifest's entry.
      layout: `triple_layout()` or `heldout_layout()`.

    Returns:
      Values of each feature, int32 `[count]`.

    Raises:
      InputError: A shard is damaged, or does not hold `count` values.
    """
    shards = [read_shard(Path(root), shard, layout) for shard in file.shards]
    columns = {}
    for name, _ in layout.features:
        padded = np.concatenate([np.ascontiguousarray(s[name]).view("<i4").ravel() for s in shards])
        values, padding = padded[: file.count], padded[file.count :]
        if len(values) < file.count or (values < 0).any() or (padding != -1).any():
            raise InputError(
                f"{Path(root) / file.shards[0].file}: column {name!r} does not hold the "
                f"{file.count} values that the manifest counts"
            )
        columns[name] = values
    return columns
