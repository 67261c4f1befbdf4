"""TFRecord shards whose records all have the same length.

Every record of a shard is a serialised `tf.train.Example` of bytes features, and each feature has
the same length in all records. A shard is therefore a valid TFRecord file and at the same time a
strided array, which is checked and read at memory speed without TensorFlow. All code that writes
or reads shards goes through this module, so that the format cannot diverge.

Frame of a record, little-endian: uint64 length, uint32 masked CRC-32C of the length, payload,
uint32 masked CRC-32C of the payload.

References:
  TensorFlow, `tensorflow/core/lib/io/record_writer.h`.
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

from bridge_jax.data.files import atomic_file, check_file_size, path_inside
from bridge_jax.errors import InputError

TRIPLES_PER_RECORD = 1024
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_WRONG_SHA256 = "its sha256 differs from the manifest's: a shard of another run"
_CUT_WHILE_READING = "the shard was cut while it was read"
_CHUNK_BYTES = 4 << 20  # checked at a time, so that they stay in the cache for both checksums


def _masked_crcs(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Returns TFRecord's masked CRC-32C of each row of bytes, `<u4`."""
    crcs = np.array([google_crc32c.value(row.tobytes()) for row in rows], np.uint64)
    return (((crcs >> 15 | crcs << 17) + 0xA282EAD8) & 0xFFFFFFFF).astype("<u4")


def _masked_crc(data: bytes) -> bytes:
    return _masked_crcs([np.frombuffer(data, np.uint8)]).tobytes()


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _length_delimited(tag: int, payload: bytes) -> bytes:
    """Encodes a protobuf field of wire type 2."""
    return bytes([tag << 3 | 2]) + _varint(len(payload)) + payload


@dataclass(frozen=True)
class Layout:
    """Byte layout of the records of a shard.

    Attributes:
      features: Name and number of bytes of each feature, in the order of the serialised Example.
      template: Frame of one record, with zeros for the features and the CRC of the payload.
      offsets: Position of the first byte of each feature within the frame.
    """

    features: tuple[tuple[str, int], ...]
    template: bytes = field(init=False, repr=False)
    offsets: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        body, ends = b"", {}
        for name, length in self.features:
            bytes_list = _length_delimited(1, b"\0" * length)
            feature = _length_delimited(1, bytes_list)
            entry = _length_delimited(1, name.encode()) + _length_delimited(2, feature)
            body += _length_delimited(1, entry)
            ends[name] = len(body)
        payload = _length_delimited(1, body)
        body_start = _HEADER_BYTES + len(payload) - len(body)
        header = struct.pack("<Q", len(payload))
        frame = header + _masked_crc(header) + payload + b"\0" * _FOOTER_BYTES
        offsets = {name: body_start + ends[name] - length for name, length in self.features}
        object.__setattr__(self, "template", frame)
        object.__setattr__(self, "offsets", offsets)

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one record on disk, including length and checksums."""
        return len(self.template)

    def slice(self, name: str) -> slice:
        """Returns the byte range of a feature within a frame."""
        return slice(self.offsets[name], self.offsets[name] + dict(self.features)[name])


def node_layout(id_bytes: int, dim: int, dtype: str) -> Layout:
    """Returns the layout of a node shard.

    The features are `embedding` (raw little-endian values) and `id` (UTF-8, padded with zeros).

    Args:
      id_bytes: Number of bytes of an id.
      dim: Dimension of an embedding.
      dtype: Name in `DTYPES`.
    """
    return Layout((("embedding", dim * DTYPES[dtype].itemsize), ("id", id_bytes)))


def triple_layout() -> Layout:
    """Returns the layout of a triple shard.

    A record holds `TRIPLES_PER_RECORD` facts in the int32 columns `head` and `tail` (global node
    ids), `relation` (relation ids) and `mirrored` (1 if the source stores the fact in both
    directions). The last record is padded with -1.
    """
    size = 4 * TRIPLES_PER_RECORD
    return Layout((("head", size), ("mirrored", size), ("relation", size), ("tail", size)))


def heldout_layout() -> Layout:
    """Returns the layout of a held-out node shard.

    A record holds `TRIPLES_PER_RECORD` global node ids in the int32 column `node`. The last record
    is padded with -1.
    """
    return Layout((("node", 4 * TRIPLES_PER_RECORD),))


@dataclass(frozen=True)
class Shard:
    """Entry of the manifest for one shard.

    Attributes:
      file: Path relative to the dataset directory.
      records: Number of records.
      sha256: SHA-256 of the file.
    """

    file: str
    records: int
    sha256: str


class ShardWriter:
    """Writes the records of one shard in blocks; opened by `shard_writer`.

    Attributes:
      records: Number of records written so far.
    """

    def __init__(self, handle: BinaryIO, layout: Layout) -> None:
        """Starts an empty shard in an open file."""
        self.records = 0
        self._handle, self._layout = handle, layout
        self._digest = hashlib.sha256()

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Writes some records.

        Args:
          columns: For each feature an array `[records, …]` of any dtype, whose rows have as many
            bytes as the feature.
        """
        layout, count = self._layout, len(next(iter(columns.values())))
        frames = np.empty((count, layout.frame_bytes), np.uint8)
        frames[:] = np.frombuffer(layout.template, np.uint8)
        for name, length in layout.features:
            raw = np.ascontiguousarray(columns[name]).view(np.uint8).reshape(count, length)
            frames[:, layout.slice(name)] = raw
        crcs = _masked_crcs(frames[:, _HEADER_BYTES:-_FOOTER_BYTES])
        frames[:, -_FOOTER_BYTES:] = crcs.view(np.uint8).reshape(count, _FOOTER_BYTES)
        self._handle.write(frames.data)
        self._digest.update(frames.data)
        self.records += count

    def shard(self, file: str) -> Shard:
        """Returns the manifest's entry for the records written so far."""
        return Shard(file, self.records, self._digest.hexdigest())


@contextmanager
def shard_writer(root: Path, file: str, layout: Layout) -> Iterator[ShardWriter]:
    """Opens a shard for writing in blocks; the file appears when the context ends without an error.

    Args:
      root: Dataset directory.
      file: Path of the shard within it.
      layout: Layout of the records.
    """
    with atomic_file(root / file) as temporary, open(temporary, "wb") as handle:
        writer = ShardWriter(handle, layout)
        yield writer
        handle.flush()
        check_file_size(handle, writer.records * layout.frame_bytes)


def write_shard(root: Path, file: str, layout: Layout, columns: Mapping[str, np.ndarray]) -> Shard:
    """Writes one shard atomically and returns the manifest's entry.

    Args:
      root: Dataset directory.
      file: Path of the shard within it.
      layout: Layout of the records.
      columns: Values of each feature; see `ShardWriter.append`.
    """
    with shard_writer(root, file, layout) as writer:
        writer.append(columns)
    return writer.shard(file)


def read_shard(root: Path, shard: Shard, layout: Layout) -> dict[str, np.ndarray]:
    """Reads one shard and checks every byte of it.

    Args:
      root: Dataset directory.
      shard: The manifest's entry.
      layout: Layout that the manifest implies.

    Returns:
      By feature name, a strided uint8 view `[records, bytes]` of the frames in memory.

    Raises:
      InputError: The file is missing, truncated or altered, or it has another layout.
    """
    frames, faults = open_shard(root, shard, layout)
    if faults:
        raise _damage_error(Path(root) / shard.file, faults)
    return {name: frames[:, layout.slice(name)] for name, _ in layout.features}


def stream_shard(
    root: Path, shard: Shard, layout: Layout, block_size: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Reads one shard in blocks and checks every byte of it.

    The SHA-256 is known only after the last block, so what was computed from the blocks is valid
    only once the iterator has ended without an error.

    Args:
      root: Dataset directory.
      shard: The manifest's entry.
      layout: Layout that the manifest implies.
      block_size: Number of records in a block; default: as many as stay in the cache.

    Yields:
      By feature name, a uint8 array `[records, bytes]`.

    Raises:
      InputError: The file is missing, truncated or altered, or it has another layout.
    """
    path = path_inside(Path(root), shard.file)
    num_records, faults = _check_size(path, shard, layout)
    if faults:
        raise _damage_error(path, faults)
    digest = hashlib.sha256()
    block_size = block_size or _chunk_records(layout)
    with open(path, "rb") as handle, ThreadPoolExecutor(1) as hasher:
        for start in range(0, num_records, block_size):
            count = min(block_size, num_records - start) * layout.frame_bytes
            frames = np.fromfile(handle, np.uint8, count)
            if len(frames) != count:
                raise _damage_error(path, [_CUT_WHILE_READING])
            hashed = hasher.submit(digest.update, frames.data)  # hashlib releases the GIL
            frames = frames.reshape(-1, layout.frame_bytes)
            if faults := _check_records(frames, layout, start):
                raise _damage_error(path, faults)
            hashed.result()
            yield {name: frames[:, layout.slice(name)] for name, _ in layout.features}
    if digest.hexdigest() != shard.sha256:
        raise _damage_error(path, [_WRONG_SHA256])


def check_sizes(root: Path, shards: Iterable[Shard], layout: Layout) -> None:
    """Raises an `InputError` if a shard does not have the size that the manifest implies."""
    for shard in shards:
        path = path_inside(root, shard.file)
        if faults := _check_size(path, shard, layout)[1]:
            raise _damage_error(path, faults)


def _damage_error(path: Path, faults: list[str]) -> InputError:
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return InputError(f"{path}: {faults[0]}{more}; restore the file or write the dataset again")


def open_shard(
    root: Path, shard: Shard, layout: Layout
) -> tuple[UInt8[np.ndarray, "records bytes"], list[str]]:
    """Reads one shard and lists all its faults, in one pass over the file.

    The file is not mapped: a file that is cut under a map kills the process (SIGBUS).

    Args:
      root: Dataset directory.
      shard: The manifest's entry.
      layout: Layout that the manifest implies.

    Returns:
      Frames, uint8 `[records, bytes]`, without a last incomplete one; and a message for each fault,
      empty for a sound shard. A truncated shard has fewer frames than the manifest lists.
    """
    path = path_inside(Path(root), shard.file)
    num_records, faults = _check_size(path, shard, layout)
    frames = np.empty((num_records, layout.frame_bytes), np.uint8)
    if not num_records:
        return frames, faults
    frames, record_faults, sha256 = _read_frames(path, frames, layout)
    if not faults and not record_faults and sha256 != shard.sha256:
        faults.append(_WRONG_SHA256)
    return frames, faults + record_faults


def _check_size(path: Path, shard: Shard, layout: Layout) -> tuple[int, list[str]]:
    """Returns the number of complete records, and the faults of the size and the first header."""
    if not path.is_file():
        return 0, ["this shard is missing; the manifest lists it"]
    size, expected = path.stat().st_size, shard.records * layout.frame_bytes
    frame_bytes = _first_frame_bytes(path)
    if frame_bytes not in (None, layout.frame_bytes):
        sizes = f"its records are {frame_bytes} bytes where the manifest implies "
        return 0, [f"{sizes}{layout.frame_bytes}: another dimension, or a shard of another run"]
    faults = []
    if size != expected:
        faults.append(
            f"{size} bytes where the manifest implies {expected} ({shard.records} records of "
            f"{layout.frame_bytes}): the shard is cut or of another run"
        )
    num_records = min(shard.records, size // layout.frame_bytes)
    if not num_records and not faults:
        faults.append("the manifest lists no record of this shard")
    return num_records, faults


def _first_frame_bytes(path: Path) -> int | None:
    """Returns the frame size in the header of the first record, or None if it is damaged."""
    with open(path, "rb") as handle:
        header = handle.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[8:] != _masked_crc(header[:8]):
        return None
    return int.from_bytes(header[:8], "little") + _HEADER_BYTES + _FOOTER_BYTES


def _chunk_records(layout: Layout) -> int:
    return max(1, _CHUNK_BYTES // layout.frame_bytes)


def _read_frames(
    path: Path, frames: np.ndarray, layout: Layout
) -> tuple[np.ndarray, list[str], str]:
    """Fills `frames` from a file; returns the complete ones, their faults and their SHA-256."""
    digest = hashlib.sha256()
    chunk_records = _chunk_records(layout)
    faults: list[str] = []
    with ThreadPoolExecutor(1) as hasher, open(path, "rb") as handle:
        for start in range(0, len(frames), chunk_records):
            chunk = frames[start : start + chunk_records]
            if handle.readinto(chunk.data) < chunk.nbytes:
                return frames[:start], [*faults, _CUT_WHILE_READING], digest.hexdigest()
            hashed = hasher.submit(digest.update, chunk.data)  # hashlib releases the GIL
            faults += _check_records(chunk, layout, start)
            hashed.result()
    return frames, faults, digest.hexdigest()


def _check_records(frames: np.ndarray, layout: Layout, start: int) -> list[str]:
    """Returns the faults of some records, the first of which is record `start`."""
    template = np.frombuffer(layout.template, np.uint8)
    stored = np.ascontiguousarray(frames[:, -_FOOTER_BYTES:]).view("<u4").ravel()
    altered = _masked_crcs(frames[:, _HEADER_BYTES:-_FOOTER_BYTES]) != stored
    ill_framed = np.zeros(len(frames), bool)
    for constant in _constant_ranges(layout):
        ill_framed |= (frames[:, constant] != template[constant]).any(axis=1)
    faults = []
    for i in np.flatnonzero(altered | ill_framed).tolist():
        what = "fails its CRC-32C (altered bytes)" if altered[i] else "is ill framed"
        faults.append(f"record {start + i} {what}")
    return faults


def _constant_ranges(layout: Layout) -> list[slice]:
    """Returns the byte ranges that are equal in all records: all but features and payload CRC."""
    features = [layout.slice(name) for name, _ in layout.features]
    starts = [0, *(s.stop for s in features)]
    stops = [*(s.start for s in features), layout.frame_bytes - _FOOTER_BYTES]
    return [slice(a, b) for a, b in zip(starts, stops, strict=True)]
