"""The on-disk contract, lower half: TFRecord shards whose records all have one length.

Every record of a shard is a `tf.train.Example` of bytes features whose lengths are the same
throughout the shard. A shard is then both a plain TFRecord file and a strided array, so it is
checked and read at memory speed without TensorFlow. `tools/` writes and `bridge_jax/` reads
through this file alone, so the format cannot drift.

Frame layout (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC-32C of
the length, the payload, uint32 masked CRC-32C of the payload; all little-endian.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np

from bridge_jax.errors import InputError

TRIPLES_PER_RECORD = 1024
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_HEADER = 12
_FOOTER = 4


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _delimited(tag: int, payload: bytes) -> bytes:
    return bytes([tag << 3 | 2]) + _varint(len(payload)) + payload


@dataclass(frozen=True)
class Layout:
    """The byte layout of one shard's records.

    Attributes:
      features: (name, bytes) of each feature, in the order of the serialised Example.
      template: the whole frame of one record, feature bytes and payload CRC left zero.
      offsets: where each feature's bytes start within the frame.
    """

    features: tuple[tuple[str, int], ...]
    template: bytes = field(init=False, repr=False)
    offsets: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        body, ends = b"", {}
        for name, length in self.features:
            value = _delimited(1, _delimited(1, b"\0" * length))  # Feature{bytes_list{value}}
            body += _delimited(1, _delimited(1, name.encode()) + _delimited(2, value))
            ends[name] = len(body)
        payload = _delimited(1, body)
        lead = _HEADER + len(payload) - len(body)
        header = struct.pack("<Q", len(payload))
        frame = header + struct.pack("<I", _masked_crc(header)) + payload + b"\0" * _FOOTER
        lengths = dict(self.features)
        object.__setattr__(self, "template", frame)
        object.__setattr__(self, "offsets", {n: lead + e - lengths[n] for n, e in ends.items()})

    @property
    def frame_bytes(self) -> int:
        """Bytes of one record on disk, framing included."""
        return len(self.template)

    def slice(self, name: str) -> slice:
        """The byte range of a feature within a frame."""
        return slice(self.offsets[name], self.offsets[name] + dict(self.features)[name])


def node_layout(id_bytes: int, dim: int, dtype: str) -> Layout:
    """Layout of a node shard: `id` (UTF-8, zero-padded) and `embedding` (raw little-endian)."""
    return Layout((("embedding", dim * DTYPES[dtype].itemsize), ("id", id_bytes)))


def triple_layout() -> Layout:
    """Layout of a triple shard: int32 blocks of global node ids, relation ids, and a flag.

    `mirrored` is 1 where the source stored the fact in both directions. The last block of a split
    is padded with -1.
    """
    size = 4 * TRIPLES_PER_RECORD
    return Layout((("head", size), ("mirrored", size), ("relation", size), ("tail", size)))


def heldout_layout() -> Layout:
    """Layout of a held-out node shard: int32 blocks of global node ids, padded with -1."""
    return Layout((("node", 4 * TRIPLES_PER_RECORD),))


@dataclass(frozen=True)
class Shard:
    """One shard as the manifest lists it; `file` is relative to the dataset directory."""

    file: str
    records: int
    sha256: str


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, then fsync it and rename it into place.

    A crash at any moment leaves the old file or the new one, never a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, one key a line so that it reads and diffs well."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_shard(root: Path, file: str, layout: Layout, columns: Mapping[str, np.ndarray]) -> Shard:
    """Write one shard atomically.

    Args:
      root: the dataset directory.
      file: the shard's path within it.
      layout: the records' layout.
      columns: for each feature an array whose rows are `bytes of the feature` long; any dtype.

    Returns:
      The manifest's entry for the shard.
    """
    rows = len(next(iter(columns.values())))
    frames = np.empty((rows, layout.frame_bytes), np.uint8)
    frames[:] = np.frombuffer(layout.template, np.uint8)
    for name, length in layout.features:
        raw = np.ascontiguousarray(columns[name]).view(np.uint8).reshape(rows, length)
        frames[:, layout.slice(name)] = raw
    crcs = [_masked_crc(row[_HEADER:-_FOOTER].tobytes()) for row in frames]
    frames[:, -_FOOTER:] = np.asarray(crcs, "<u4").view(np.uint8).reshape(rows, _FOOTER)
    with atomic_file(root / file) as temporary, open(temporary, "wb") as handle:
        handle.write(frames.data)
        handle.flush()
    return Shard(file, rows, hashlib.sha256(frames.data).hexdigest())


def read_shard(root: Path, shard: Shard, layout: Layout) -> dict[str, np.ndarray]:
    """Open one shard, check every byte of it, and return its features as strided views.

    Args:
      root: the dataset directory.
      shard: the manifest's entry.
      layout: the layout the manifest implies.

    Returns:
      Feature name to a uint8 view `[records, bytes]` on the memory-mapped file.

    Raises:
      InputError: the file is missing, cut, altered, or belongs to another layout.
    """
    path = root / shard.file
    if not path.is_file():
        raise InputError(f"{path}: this shard is missing; the manifest lists it")
    size, expected = path.stat().st_size, shard.records * layout.frame_bytes
    if size != expected:
        raise InputError(
            f"{path}: {size} bytes where the manifest implies {expected} ({shard.records} records "
            f"of {layout.frame_bytes}); the shard is cut or of another run: write it again"
        )
    frames = np.memmap(path, np.uint8, "r").reshape(shard.records, layout.frame_bytes)
    if hashlib.sha256(frames.data).hexdigest() != shard.sha256:
        where = _first_bad_record(frames, layout)
        raise InputError(f"{path}: {where}; restore the file or write the dataset again")
    bad = _first_bad_record(frames, layout, quiet=True)
    if bad:
        raise InputError(f"{path}: {bad}; it was written wrongly: write the dataset again")
    return {name: frames[:, layout.slice(name)] for name, _ in layout.features}


def _first_bad_record(frames: np.ndarray, layout: Layout, quiet: bool = False) -> str:
    """Name the first record whose framing or checksum is wrong; empty when all are right."""
    template = np.frombuffer(layout.template, np.uint8)
    fixed = np.ones(layout.frame_bytes, bool)
    for name, _ in layout.features:
        fixed[layout.slice(name)] = False
    fixed[-_FOOTER:] = False
    stored = np.ascontiguousarray(frames[:, -_FOOTER:]).view("<u4").ravel()
    for i, row in enumerate(frames):
        if _masked_crc(row[_HEADER:-_FOOTER].tobytes()) != stored[i]:
            return f"record {i} fails its CRC-32C (a flipped byte)"
    ill_framed = (frames[:, fixed] != template[fixed]).any(axis=1)
    if ill_framed.any():
        return f"record {int(ill_framed.argmax())} is not framed as the manifest says"
    return "" if quiet else "its sha256 differs from the manifest's (a shard of another run)"
