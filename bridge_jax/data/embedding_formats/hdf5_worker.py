"""Process that runs the HDF5 library, which a damaged file can crash or keep busy for ever.

It answers requests, one JSON object per line on standard input, with a line of JSON and the number
of bytes that the line names. See `bridge_jax.data.embedding_formats.hdf5_process`.
"""

import gc
import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

STEP_SECONDS = 2  # processor time of one step; a step takes a tenth of a second
MEMORY_BYTES = 2 << 30  # beyond that of the start
_LIST_SECONDS = 600  # to write the list of objects, which the library has no part in
_LINKS_PER_STEP = 1000
_LINK_BYTES = 8  # at least, in the file
_ATTRIBUTES = ("encoding-type", "_index", "pandas_type", "original_id", "shape")


def main() -> None:
    """Answers requests until standard input ends."""
    import h5py

    answers = sys.stdout.buffer
    _limit_memory()
    gc.disable()  # a list of a million objects would make it slow
    files: dict[int, Any] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["do"] == "close":
            if file := files.pop(request["file"], None):
                file.close()
            continue
        _allow_step()
        try:
            if request["do"] == "list":
                with h5py.File(request["path"], "r") as file:  # fails while another writes it
                    objects = list(_objects(file))
                _allow_step(_LIST_SECONDS)
                _answer(answers, {}, json.dumps(objects).encode())
                continue
            if request["file"] not in files:
                files[request["file"]] = h5py.File(request["path"], "r", locking=False)
            dataset = files[request["file"]][request["name"]]
            _read(answers, dataset, request["start"], request["stop"])
        except Exception as e:
            error = " ".join(str(e).split()) or type(e).__name__
            _answer(answers, {"error": error})


def _answer(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    stream.write(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n")
    stream.write(payload)
    stream.flush()


def _limit_memory() -> None:
    if not os.path.exists("/proc/self/statm"):
        return  # not Linux
    with open("/proc/self/statm", "rb") as handle:
        pages = int(handle.read().split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY_BYTES)


def _allow_step(seconds: int = STEP_SECONDS) -> None:
    """Grants processor time for the next step; the kernel ends a process that takes more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + seconds)


def _lower(limited: int, limit: int) -> None:
    hard = resource.getrlimit(limited)[1]
    resource.setrlimit(limited, (limit if hard < 0 else min(limit, hard), hard))


def _objects(file: Any) -> Iterator[list[Any]]:
    """Yields kind, name, attributes and, for a dataset, its description; the root comes first."""
    import h5py

    yield ["group", "", _attributes(file.id)]
    links: list[tuple[bytes, int]] = []
    most = os.path.getsize(file.filename) // _LINK_BYTES

    def add(name: bytes, info: Any) -> None:
        if len(links) % _LINKS_PER_STEP == 0:
            _allow_step()
        if len(links) > most:
            raise ValueError("its links form a circle")
        links.append((name, info.type))

    file.id.links.visit(add, info=True)
    types: list[tuple[Any, str, bool]] = []  # those met so far; files have few
    for i, (name, link_type) in enumerate(links):
        if i % _LINKS_PER_STEP == 0:
            _allow_step()
        text = name.decode("utf-8", "surrogateescape")
        if link_type != h5py.h5l.TYPE_HARD:
            yield ["link", text, {}]
            continue
        item = h5py.h5o.open(file.id, name)
        if isinstance(item, h5py.h5g.GroupID):
            yield ["group", text, _attributes(item)]
        elif isinstance(item, h5py.h5d.DatasetID):
            yield ["dataset", text, _attributes(item), *_describe(item, types)]


def _attributes(item: Any) -> dict[str, Any]:
    import h5py

    attributes: dict[str, Any] = {}
    if not h5py.h5a.get_num_attrs(item):
        return attributes
    manager = h5py.AttributeManager(_Owner(item))
    for name in _ATTRIBUTES:
        if name in manager:
            value = manager[name]
            value = value.tolist() if hasattr(value, "tolist") else value
            if isinstance(value, bytes):
                value = value.decode("utf-8", "surrogateescape")
            attributes[name] = value
    return attributes


class _Owner:
    """Owner of attributes as `h5py.AttributeManager` needs it."""

    def __init__(self, item: Any) -> None:
        self.id = item


def _describe(item: Any, types: list[tuple[Any, str, bool]]) -> list[Any]:
    """Returns the fields of `hdf5_process.Hdf5Object` from `shape` on."""
    import h5py

    properties = item.get_create_plist()
    layout = properties.get_layout()
    place, position, chunk, num_chunks = "compact", -1, [], 0
    if layout == h5py.h5d.CONTIGUOUS:
        place = "elsewhere" if properties.get_external_count() else "contiguous"
        offset = item.get_offset()
        position = -1 if offset is None else offset
    elif layout == h5py.h5d.CHUNKED:
        place, chunk, num_chunks = "chunked", properties.get_chunk(), item.get_num_chunks()
        if num_chunks:
            position = item.get_chunk_info(0).byte_offset
    elif layout != h5py.h5d.COMPACT:
        place = "elsewhere"
    file_type = item.get_type()
    known = next((t for t in types if t[0].equal(file_type)), None)
    if known is None:
        known = file_type, item.dtype.str, h5py.check_string_dtype(item.dtype) is not None
        types.append(known)
    _, dtype, is_text = known
    space = item.get_space()
    shape = None if space.get_simple_extent_type() == h5py.h5s.NULL else list(item.shape)
    return [shape, dtype, is_text, place, position, item.get_storage_size(), chunk, num_chunks]


def _read(answers: BinaryIO, dataset: Any, start: int, stop: int) -> None:
    values = np.asarray(dataset[start:stop] if len(dataset.shape) else dataset[()])
    header = {"dtype": values.dtype.str, "shape": list(values.shape)}
    if not values.dtype.hasobject:
        _answer(answers, header, values.tobytes())
        return
    texts = []
    for value in values.reshape(-1).tolist():
        if not isinstance(value, bytes | str):
            raise TypeError(
                f"{dataset.name}: a {type(value).__name__} is neither text nor a number"
            )
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        texts.append(text)
    _answer(answers, {**header, "dtype": "text"}, json.dumps(texts).encode())
