"""The on-disk contract, lower half: TFRecord shards whose records all have one length.

Every record of a shard is a `tf.train.Example` of bytes features whose lengths are the same
throughout the shard. A shard is then both a plain TFRecord file and a strided array, so it is
checked and read at memory speed without TensorFlow. `tools/` writes and `bridge_jax/` reads
through this file alone, so the format cannot drift.

Frame layout (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC-32C of
the length, the payload, uint32 masked CRC-32C of the payload; all little-endian.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import ml_dtypes
import numpy as np
from jaxtyping import UInt8

from bridge_jax.data.files import atomic_file
from bridge_jax.errors import InputError

TRIPLES_PER_RECORD = 1024
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_HEADER = 12
_FOOTER = 4
_OTHER_SHARD = "its sha256 differs from the manifest's: a shard of another run"
_CHUNK = 4 << 20  # bytes checked at a time: they stay in the cache for both checksums


def _masked_crcs(rows: Iterable[np.ndarray]) -> np.ndarray:
    """TFRecord's masked CRC-32C of each row of bytes, `<u4`."""
    crcs = np.array([google_crc32c.value(row.tobytes()) for row in rows], np.uint64)
    return (((crcs >> 15 | crcs << 17) + 0xA282EAD8) & 0xFFFFFFFF).astype("<u4")


def _crc(data: bytes) -> bytes:
    return _masked_crcs([np.frombuffer(data, np.uint8)]).tobytes()


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
        frame = header + _crc(header) + payload + b"\0" * _FOOTER
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


class ShardWriter:
    """One shard that grows a block at a time; `shard_writer` opens it.

    Attributes:
      records: written so far.
    """

    def __init__(self, handle: BinaryIO, layout: Layout) -> None:
        """Write to an open file; nothing is read back."""
        self.records = 0
        self._handle, self._layout = handle, layout
        self._digest = hashlib.sha256()

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write records.

        Args:
          columns: for each feature an array whose rows are `bytes of the feature` long; any dtype.
        """
        layout, rows = self._layout, len(next(iter(columns.values())))
        frames = np.empty((rows, layout.frame_bytes), np.uint8)
        frames[:] = np.frombuffer(layout.template, np.uint8)
        for name, length in layout.features:
            raw = np.ascontiguousarray(columns[name]).view(np.uint8).reshape(rows, length)
            frames[:, layout.slice(name)] = raw
        crcs = _masked_crcs(frames[:, _HEADER:-_FOOTER])
        frames[:, -_FOOTER:] = crcs.view(np.uint8).reshape(rows, _FOOTER)
        self._handle.write(frames.data)
        self._digest.update(frames.data)
        self.records += rows

    def shard(self, file: str) -> Shard:
        """The manifest's entry for what was written."""
        return Shard(file, self.records, self._digest.hexdigest())


@contextmanager
def shard_writer(root: Path, file: str, layout: Layout) -> Iterator[ShardWriter]:
    """Write one shard in blocks; it appears under its name when the block of code ends well.

    Args:
      root: the dataset directory.
      file: the shard's path within it.
      layout: the records' layout.
    """
    with atomic_file(root / file) as temporary, open(temporary, "wb") as handle:
        yield ShardWriter(handle, layout)
        handle.flush()


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
    with shard_writer(root, file, layout) as writer:
        writer.append(columns)
    return writer.shard(file)


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
    frames, faults = open_shard(root, shard, layout)
    if faults:
        raise _damaged(Path(root) / shard.file, faults)
    return {name: frames[:, layout.slice(name)] for name, _ in layout.features}


def stream_shard(
    root: Path, shard: Shard, layout: Layout, rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Read one shard a block at a time, checking every byte of it on the way.

    The shard's sha256 is known after its last block: what was made of the blocks counts once the
    iterator has ended.

    Args:
      root: the dataset directory.
      shard: the manifest's entry.
      layout: the layout the manifest implies.
      rows: records a block; the last may hold fewer.

    Yields:
      Feature name to a uint8 array `[records, bytes]`.

    Raises:
      InputError: as `read_shard`.
    """
    path = Path(root) / shard.file
    whole, faults = _framing(path, shard, layout)
    if faults:
        raise _damaged(path, faults)
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for start in range(0, whole, rows):
            count = min(rows, whole - start) * layout.frame_bytes
            block = np.fromfile(handle, np.uint8, count).reshape(-1, layout.frame_bytes)
            if faults := _check_part(block, layout, start):
                raise _damaged(path, faults)
            digest.update(block.data)
            yield {name: block[:, layout.slice(name)] for name, _ in layout.features}
    if digest.hexdigest() != shard.sha256:
        raise _damaged(path, [_OTHER_SHARD])


def _damaged(path: Path, faults: list[str]) -> InputError:
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return InputError(f"{path}: {faults[0]}{more}; restore the file or write the dataset again")


def open_shard(
    root: Path, shard: Shard, layout: Layout
) -> tuple[UInt8[np.ndarray, "records bytes"], list[str]]:
    """Map one shard and list everything that is wrong with it, in one pass over its bytes.

    Args:
      root: the dataset directory.
      shard: the manifest's entry.
      layout: the layout the manifest implies.

    Returns:
      The whole frames that the file holds (fewer than the manifest lists when it is cut), and the
      faults, record by record and then for the file.
    """
    path = Path(root) / shard.file
    whole, faults = _framing(path, shard, layout)
    if not whole:
        return np.zeros((0, layout.frame_bytes), np.uint8), faults
    frames = np.memmap(path, np.uint8, "r", shape=(whole, layout.frame_bytes))
    bad, digest = _check_frames(frames, layout)
    if not faults and not bad and digest != shard.sha256:
        faults.append(_OTHER_SHARD)
    return frames, faults + bad


def _framing(path: Path, shard: Shard, layout: Layout) -> tuple[int, list[str]]:
    """How many whole frames a file holds, and what is wrong with its size and first header."""
    if not path.is_file():
        return 0, ["this shard is missing; the manifest lists it"]
    size, expected = path.stat().st_size, shard.records * layout.frame_bytes
    length = _record_length(path)
    if length not in (None, layout.frame_bytes):
        what = f"its records are {length} bytes where the manifest implies {layout.frame_bytes}"
        return 0, [f"{what}: another dimension, or a shard of another run"]
    faults = []
    if size != expected:
        faults.append(
            f"{size} bytes where the manifest implies {expected} ({shard.records} records of "
            f"{layout.frame_bytes}): the shard is cut or of another run"
        )
    whole = min(shard.records, size // layout.frame_bytes)
    if not whole and not faults:
        faults.append("the manifest lists no record of this shard")
    return whole, faults


def _record_length(path: Path) -> int | None:
    """The frame bytes that the first record claims, or None where its header is damaged."""
    with open(path, "rb") as handle:
        header = handle.read(_HEADER)
    if len(header) < _HEADER or header[8:] != _crc(header[:8]):
        return None
    return int.from_bytes(header[:8], "little") + _HEADER + _FOOTER


def _check_frames(frames: np.ndarray, layout: Layout) -> tuple[list[str], str]:
    """Faults of framing and CRC-32C, and the sha256 of all frames."""
    digest = hashlib.sha256()
    step = max(1, _CHUNK // layout.frame_bytes)
    faults = []
    with ThreadPoolExecutor(1) as hasher:
        for start in range(0, len(frames), step):
            part = np.asarray(frames[start : start + step])
            hashed = hasher.submit(digest.update, part.data)  # hashlib lets go of the GIL
            faults += _check_part(part, layout, start)
            hashed.result()
    return faults, digest.hexdigest()


def _check_part(part: np.ndarray, layout: Layout, start: int) -> list[str]:
    """Faults of framing and CRC-32C of some frames, the first of which is record `start`."""
    template = np.frombuffer(layout.template, np.uint8)
    stored = np.ascontiguousarray(part[:, -_FOOTER:]).view("<u4").ravel()
    altered = _masked_crcs(part[:, _HEADER:-_FOOTER]) != stored
    ill_framed = np.zeros(len(part), bool)
    for fixed in _fixed(layout):
        ill_framed |= (part[:, fixed] != template[fixed]).any(axis=1)
    found = []
    for i in np.flatnonzero(altered | ill_framed).tolist():
        what = "fails its CRC-32C (altered bytes)" if altered[i] else "is ill framed"
        found.append(f"record {start + i} {what}")
    return found


def _fixed(layout: Layout) -> list[slice]:
    """The byte ranges that all records share: everything but the features and the payload CRC."""
    taken = [layout.slice(name) for name, _ in layout.features]
    starts = [0, *(s.stop for s in taken)]
    stops = [*(s.start for s in taken), layout.frame_bytes - _FOOTER]
    return [slice(a, b) for a, b in zip(starts, stops, strict=True)]
