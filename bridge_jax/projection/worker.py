"""The work of a projection: parts of a source through the bridge and to disk.

    reader thread                     this thread             writer thread
    read, check, drop bad rows  ──▶   dispatch to a device ──▶ wait for it, write, commit

Blocks have one size and are computed one a device, so that a part's bytes depend on the part alone:
any number of workers, processes and devices of one kind write the same files.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bridge_jax import predictor as trained
from bridge_jax.data.dataset import NodeTable, vector_faults
from bridge_jax.data.embedding_files import Block
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import Shard
from bridge_jax.errors import InputError
from bridge_jax.projection.outputs import FORMATS, Written, check_format
from bridge_jax.projection.sources import open_source
from bridge_jax.training.prefetch import prefetch

# Rows of a block, by what computes them. The bytes depend on it, so it is no option. On a CPU the
# activations of few rows stay in the cache; an accelerator wants many.
ROWS = {"cpu": 512}
MANY_ROWS = 8192
DEPTH = 4  # blocks ahead of and behind each device


@dataclass(frozen=True)
class Options:
    """What a projection is told; the words of the command."""

    workdir: str
    input: str
    source: str
    output: str
    relation: str | None = None
    target: str | None = None
    format: str = "tfrecord"
    dtype: str = "float32"
    dataset: str | None = None
    step: int | None = None
    overwrite: bool = False


class _Item(NamedTuple):
    """A block ready for the device, or the end of its part where `ids` is None.

    `records` are the numbers of the ids in their file; `x` has as many rows as a block.
    """

    k: int
    file: str
    rows: int
    ids: list[str] | None
    records: list[int]
    x: np.ndarray
    rejects: list[list[Any]]


class Projection:
    """A projection that may be begun, shared and gone on with.

    Attributes:
      source: the vectors.
      journal: what is done.
      rows: of a block.
      about: triple type, or the node type with a plain projection, in words.
    """

    def __init__(self, options: Options) -> None:
        """Open the run, the input and the output.

        Raises:
          InputError: one of them cannot be used, or the output holds something else.
        """
        check_format(options.format, options.dtype)
        self._options = options
        bridge = trained.load(options.workdir, options.dataset, options.step)
        name, dim = options.source, bridge.dim(options.source)
        self.about = f"projection of {name}"
        if options.relation is not None or options.target is not None:
            self.about = str(bridge.triple_type(name, options.relation, options.target))
        others = [t for t, _ in bridge.model.node_types if t != name]
        self.source = open_source(Path(options.input), name, dim, others)
        self._width = int(bridge.config.model.width)
        self._bridge = bridge
        self._digest = _digest(bridge, name)
        fingerprint = {
            "--input": _sha256(json.dumps(self.source.identity()).encode())[:16],
            "bridge": self._digest,
            "output": self.about,
            "--format": options.format,
            "--dtype": options.dtype,
            "device": jax.local_devices()[0].device_kind,
        }
        self.rows = ROWS.get(jax.default_backend(), MANY_ROWS)
        self.journal = Journal(Path(options.output), name, f".{options.format}")
        self.journal.open(fingerprint, len(self.source.parts), options.overwrite)

    def left(self, parts: Iterable[int], check: bool = False) -> list[int]:
        """Those of some parts that are not written yet.

        Args:
          parts: to look at.
          check: compare the bytes of what is there with its checksum.
        """
        return [k for k in parts if self.journal.read(k, check) is None]

    @cached_property
    def compute(self) -> Callable[[np.ndarray], jax.Array]:
        """A block of raw vectors to a block of the output, on one device after the other."""
        options, bridge = self._options, self._bridge
        embed = cycle(
            [
                replace(bridge, params=jax.device_put(bridge.params, device)).projector(
                    options.source, options.relation, options.target
                )
                for device in jax.local_devices()
            ]
        )
        return lambda x: _cast(next(embed)(x), options.dtype)

    def run(self, parts: Sequence[int], tell: Callable[[int], None] = lambda rows: None) -> None:
        """Project parts, in order; each is committed when it is whole.

        Args:
          parts: places in `source.parts`.
          tell: is called with the rows of each block when they are on their way to disk.

        Raises:
          InputError: the input is damaged; parts before it are committed.
        """
        most = DEPTH * jax.local_device_count()
        waiting: deque[Future[None]] = deque()
        with ExitStack() as stack:
            output = stack.enter_context(_Output(self))
            writer = stack.enter_context(ThreadPoolExecutor(1, "writer"))
            for item in prefetch(self._read(parts), most):
                y = self.compute(item.x) if item.ids else None
                waiting.append(writer.submit(output.take, item, y, tell))
                while len(waiting) > most:
                    waiting.popleft().result()
            for future in waiting:
                future.result()

    def complete(self) -> NodeTable | None:
        """Write `nodes/<type>.json` and the rejects, if every part of every worker is there.

        Returns:
          The table as written, or None where parts are left.

        Raises:
          InputError: every vector was rejected.
        """
        entries = [self.journal.read(k) for k in range(self.journal.total)]
        done = [e for e in entries if e is not None]
        if len(done) < self.journal.total:
            return None
        rejects = [r for e in done for r in e["rejects"]]
        path = self.journal.sidecar.with_suffix(".rejects.tsv")
        if rejects:
            with atomic_file(path) as temporary:
                rows = [["file", "record", "id", "reason"], *rejects]
                temporary.write_text("".join("\t".join(map(_cell, r)) + "\n" for r in rows))
        else:
            path.unlink(missing_ok=True)
        shards = tuple(Shard(**e["shard"]) for e in done if e["shard"])
        if not shards:
            raise InputError(
                f"{self._options.input}: every one of {len(rejects):,} vectors was rejected; the "
                f"first, {rejects[0][2]!r}: {rejects[0][3]}; see {path}"
            )
        table = NodeTable(
            name=self._options.source,
            dim=self._width,
            dtype=self._options.dtype,
            count=sum(s.records for s in shards),
            id_bytes=self.source.id_bytes,
            shards=shards,
            encoder=f"bridge_jax@{self._digest}",
            pooling=f"{self.about}, unit vectors",
            source=Path(self._options.input).name,
        )
        write_json(self.journal.sidecar, asdict(table))
        return table

    def rejected(self) -> Counter[str]:
        """How often each reason stands among the rejects of what is done."""
        entries = (self.journal.read(k) for k in range(self.journal.total))
        return Counter(r[3] for e in entries if e for r in e["rejects"])

    def open(self, k: int) -> Any:
        """A context that writes part `k`."""
        options = self._options
        make = FORMATS[options.format]
        file = self.journal.shard(k)
        return make(Path(options.output), file, self._width, options.dtype, self.source.id_bytes)

    def _read(self, parts: Iterable[int]) -> Iterator[_Item]:
        nothing = np.zeros((0, self.source.dim), np.float32)
        for k in parts:
            name = self.source.files[self.source.parts[k].file].path.name
            for block in self.source.blocks(k, self.rows):
                yield _item(k, name, block, self.rows)
            yield _Item(k, name, 0, None, [], nothing, [])


class _Output:
    """The part that is being written; used by the writer thread alone."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._stack = ExitStack()
        self._written: Written | None = None
        self._rejects: list[list[Any]] = []

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, *error: Any) -> None:
        """Drop what is not whole."""
        if self._written is not None:
            self._stack.__exit__(RuntimeError, RuntimeError("stopped"), None)

    def take(self, item: _Item, y: jax.Array | None, tell: Callable[[int], None]) -> None:
        """Write a block, or commit its part."""
        if item.ids is None:
            self._commit(item.k)
            return
        self._rejects += item.rejects
        if y is not None:
            self._write(item, np.asarray(y)[: len(item.ids)])
        tell(item.rows)

    def _write(self, item: _Item, x: np.ndarray) -> None:
        ids = item.ids or []
        bad = dict(vector_faults(x))
        if bad:
            for i, what in bad.items():
                reason = f"its projection is {what}"
                self._rejects.append([item.file, item.records[i], ids[i], reason])
            keep = [i for i in range(len(ids)) if i not in bad]
            ids, x = [ids[i] for i in keep], x[keep]
        if not ids:
            return
        if self._written is None:
            self._projection.journal.sweep(item.k)
            self._written = self._stack.enter_context(self._projection.open(item.k))
        self._written.append(ids, x)

    def _commit(self, k: int) -> None:
        files: dict[str, Any] = {"shard": None}
        if self._written is not None:
            self._stack.close()
            files |= self._written.files
        self._projection.journal.write(k, {**files, "rejects": self._rejects})
        self._written, self._rejects = None, []


@partial(jax.jit, static_argnums=1)
def _cast(y: jax.Array, dtype: str) -> jax.Array:
    return y.astype(jnp.dtype(dtype))


def _item(k: int, file: str, block: Block, size: int) -> _Item:
    """Drop what cannot be projected, and fill the block up to its size."""
    ids, x = block.ids, block.x
    keep = list(range(len(ids)))
    rejects = [[file, block.first + i, ids[i], why] for i, why in sorted(block.faults.items())]
    if rejects:
        keep = [i for i in keep if i not in block.faults]
        ids, x = [ids[i] for i in keep], x[keep]
    if ids and len(ids) < size:
        x = np.pad(x, ((0, size - len(ids)), (0, 0)), "edge")
    records = [block.first + i for i in keep]
    return _Item(k, file, len(block.ids), ids, records, x, rejects)


def _digest(bridge: trained.Predictor, node_type: str) -> str:
    """What the output depends on besides the input, in twelve digits."""
    digest = hashlib.sha256(repr(bridge.model).encode() + str(bridge.config.tables).encode())
    for array in jax.tree.leaves((bridge.params["model"], bridge.transforms[node_type])):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cell(value: object) -> str:
    return " ".join(str(value).split())
