"""Streams slices of a source through the bridge to disk.

    reader thread                     this thread             writer thread
    read, check, drop bad rows  ──▶   dispatch to a device ──▶ wait for it, write, commit

Blocks have one size and each is computed on one device, so the bytes of a shard depend on its slice
alone: any number of workers, processes and devices of one kind write the same files.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridge_jax import predictor
from bridge_jax.data.embedding_files import DEFAULT, EmbeddingBlock, ReadOptions
from bridge_jax.data.encoder_spec import EncoderSpec
from bridge_jax.data.files import atomic_file
from bridge_jax.data.manifest import NodeTable
from bridge_jax.data.shard_journal import Journal
from bridge_jax.data.tfrecord import Shard
from bridge_jax.errors import InputError
from bridge_jax.projection.outputs import FORMATS, OutputShard, check_format
from bridge_jax.projection.shard_writer import InputBlock, ShardWriter
from bridge_jax.projection.sources import open_source
from bridge_jax.training.prefetch import prefetch

# Rows of a block by backend. The bytes depend on it, so it is not an option. On a CPU the
# activations of few rows stay in the cache; an accelerator needs many rows.
BLOCK_ROWS = {"cpu": 512}
ACCELERATOR_BLOCK_ROWS = 8192
BLOCKS_AHEAD = 4  # blocks read ahead of each device, and blocks that may wait for the writer


@dataclass(frozen=True)
class ProjectionOptions:
    """Options of one projection, as `bridge_jax.project` takes them.

    Attributes:
      workdir: Trained run or exported bridge.
      input: Dataset directory, file or folder of embeddings.
      source: Node type of the embeddings.
      output: Folder to write.
      relation: Relation to bridge along; default: the only one of source and target.
      target: Node type to bridge to; default: the only one of source and relation. Without
        relation and target, the plain projection is computed.
      format: Format of the shards, a name of `FORMATS`.
      dtype: Dtype of the stored vectors.
      dataset: Dataset of the run; default: the config's.
      step: Checkpoint step; default: the best by validation.
      overwrite: Whether to replace another projection in the output folder.
      reading: How a file of the input is read if its content does not decide.
      allow_other_encoder: Whether embeddings of another encoder than the run's are accepted.
    """

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
    reading: ReadOptions = DEFAULT
    allow_other_encoder: bool = False


class Projection:
    """A projection that several workers may share and that can be interrupted and continued.

    Slice k of the source becomes shard k of the output. As a context, a projection holds the lock
    of the output folder until its end.

    Attributes:
      source: Embeddings to project.
      journal: Record of the finished shards.
      block_rows: Number of rows per block.
      description: Triple type, or `projection of <node type>`.
    """

    def __init__(
        self, options: ProjectionOptions, worker: int | None = 0, num_workers: int = 1
    ) -> None:
        """Opens the run, the input and the output.

        Args:
          options: Options of the projection.
          worker: Index of this worker, default 0; None for a worker on Ray.
          num_workers: Number of workers, default 1; 0 on Ray.

        Raises:
          InputError: One of them cannot be used, the output folder holds another projection, or
            another process writes to it.
        """
        check_format(options.format, options.dtype)
        self._options = options
        bridge = predictor.load(options.workdir, options.dataset, options.step)
        node_type, dim = options.source, bridge.dim(options.source)
        self.description = f"projection of {node_type}"
        if options.relation is not None or options.target is not None:
            self.description = str(bridge.triple_type(node_type, options.relation, options.target))
        other_types = [t for t, _ in bridge.model.node_types if t != node_type]
        self.source = open_source(Path(options.input), node_type, dim, other_types, options.reading)
        self._specs = {file.encoder_spec for file in self.source.files}
        for spec in self._specs:
            bridge.check_encoder(node_type, spec, options.input, options.allow_other_encoder)
        self._width = int(bridge.config.model.width)
        self._bridge = bridge
        self._digest = _digest(bridge, node_type)
        fingerprint = {
            "--input": _sha256(json.dumps(self.source.fingerprint()).encode())[:16],
            "bridge": self._digest,
            "output": self.description,
            "--format": options.format,
            "--dtype": options.dtype,
            "device": jax.local_devices()[0].device_kind,
        }
        self.block_rows = BLOCK_ROWS.get(jax.default_backend(), ACCELERATOR_BLOCK_ROWS)
        self.journal = Journal(Path(options.output), node_type, f".{options.format}")
        self.journal.open(
            fingerprint, len(self.source.slices), options.overwrite, worker, num_workers
        )

    def __enter__(self) -> "Projection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock of the output folder."""
        self.journal.close()

    def pending(self, shards: Iterable[int], check: bool = False) -> list[int]:
        """Returns those of some shards that are not finished.

        Args:
          shards: Indices of shards.
          check: Whether to compare the checksums of finished shards with their bytes.
        """
        return [k for k in shards if self._finished_entry(k, check) is None]

    @cached_property
    def compute(self) -> Callable[[np.ndarray], jax.Array]:
        """Maps a block of raw embeddings to its vectors, on each local device in turn."""
        options, bridge = self._options, self._bridge
        projectors = cycle(
            [
                replace(bridge, params=jax.device_put(bridge.params, device)).projector(
                    options.source, options.relation, options.target
                )
                for device in jax.local_devices()
            ]
        )
        return lambda x: _cast(next(projectors)(x), options.dtype)

    def run(
        self, shards: Sequence[int], on_rows: Callable[[int], None] = lambda num_rows: None
    ) -> None:
        """Projects shards in order, and commits each when it is complete.

        Args:
          shards: Indices of the shards.
          on_rows: Called with the number of rows of each block that has been written.

        Raises:
          InputError: The input is damaged; the shards before it are committed.
          OSError: A shard cannot be written, for example to a full disk; nothing is written or
            committed after that.
        """
        max_waiting = BLOCKS_AHEAD * jax.local_device_count()
        waiting: deque[Future[None]] = deque()
        with ExitStack() as stack:
            writer = stack.enter_context(ShardWriter(self.journal, self.open_shard))
            thread = stack.enter_context(ThreadPoolExecutor(1, "writer"))
            blocks = stack.enter_context(closing(prefetch(self._read(shards), max_waiting)))
            for block in blocks:
                z = self.compute(block.x) if block.ids else None
                waiting.append(thread.submit(writer.write, block, z, on_rows))
                while len(waiting) > max_waiting:
                    waiting.popleft().result()
            for future in waiting:
                future.result()

    def write_sidecar(self) -> NodeTable | None:
        """Writes `nodes/<type>.json` and the list of rejects, if all shards are finished.

        Returns:
          The table as written, or None if shards of any worker are pending.

        Raises:
          InputError: All vectors were rejected.
        """
        entries = self._finished_entries()
        if len(entries) < self.journal.num_shards:
            return None
        rejects = [reject for entry in entries for reject in entry["rejects"]]
        path = self.journal.root / "nodes" / f"{self.journal.stem}.rejects.tsv"
        if rejects:
            with atomic_file(path) as temporary:
                rows = [["file", "record", "id", "reason"], *rejects]
                text = "".join("\t".join(map(_tsv_cell, r)) + "\n" for r in rows)
                temporary.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
        shards = tuple(Shard(**entry["shard"]) for entry in entries if entry["shard"])
        if not shards:
            raise InputError(
                f"{self._options.input}: all {len(rejects):,} vectors were rejected; the first, "
                f"{rejects[0][2]!r}: {rejects[0][3]}; see {path}"
            )
        table = NodeTable(
            name=self._options.source,
            dim=self._width,
            dtype=self._options.dtype,
            count=sum(s.records for s in shards),
            id_bytes=self.source.id_bytes,
            shards=shards,
            encoder=f"bridge_jax@{self._digest}",
            pooling=f"{self.description}, unit vectors",
            source=Path(self._options.input).name,
            encoder_spec=self._output_spec(),
        )
        self.journal.complete(table.to_json())
        return table

    def _output_spec(self) -> EncoderSpec | None:
        """Returns how the projected vectors were made; None if that of the input is not known."""
        if len(self._specs) != 1 or not (spec := next(iter(self._specs))):
            return None
        made = f"{self.description} by bridge_jax@{self._digest}"
        return replace(spec, projection=made, dtype=self._options.dtype)

    def count_rejects(self) -> Counter[str]:
        """Returns how many rows of the finished shards were rejected for each reason."""
        entries = self._finished_entries()
        return Counter(reject[3] for entry in entries for reject in entry["rejects"])

    def open_shard(self, k: int) -> AbstractContextManager[OutputShard]:
        """Returns the context that writes shard k."""
        options = self._options
        open_format = FORMATS[options.format]
        return open_format(
            self.journal.root,
            self.journal.shard_path(k),
            self._width,
            options.dtype,
            self.source.id_bytes,
        )

    def _finished_entries(self) -> list[dict[str, Any]]:
        entries = map(self._finished_entry, range(self.journal.num_shards))
        return [entry for entry in entries if entry is not None]

    def _finished_entry(self, k: int, check: bool = False) -> dict[str, Any] | None:
        """Returns the journal entry of shard k if it accounts for all rows of its slice.

        An entry without counts, of an earlier version, does not: its shard may lack rows.
        """
        entry = self.journal.read_entry(k, check)
        if entry is None:
            return None
        shard, ids, rejects = entry["shard"], entry.get("ids"), entry.get("rejects")
        if not isinstance(rejects, list) or not all(map(_is_reject, rejects)):
            return None
        num_records = shard["records"] if shard else 0
        num_rows = self.source.slice_rows(k)
        if entry.get("rows") != num_rows or num_records + len(rejects) != num_rows:
            return None
        is_listed = not ids or (ids["records"], ids["sha256"]) == (num_records, entry["ids_sha256"])
        return entry if is_listed else None

    def _read(self, shards: Iterable[int]) -> Iterator[InputBlock]:
        no_rows = np.zeros((0, self.source.dim), np.float32)
        for k in shards:
            path, num_rows = self.source.files[self.source.slices[k].file].path, 0
            for block in self.source.blocks(k, self.block_rows):
                num_rows += len(block.ids)
                yield _drop_rejects(k, path.name, block, self.block_rows)
            if num_rows != self.source.slice_rows(k):
                raise InputError(
                    f"{path}: {num_rows} rows where {self.source.slice_rows(k)} were counted at "
                    "first: the file was changed; run the same command again"
                )
            yield InputBlock(k, path.name, num_rows, None, [], no_rows, [])


@partial(jax.jit, static_argnums=1)
def _cast(z: jax.Array, dtype: str) -> jax.Array:
    return z.astype(jnp.dtype(dtype))


def _drop_rejects(k: int, file: str, block: EmbeddingBlock, block_rows: int) -> InputBlock:
    """Drops the faulty rows of a block and pads the others to the size of a block."""
    ids, x = block.ids, block.x
    keep = list(range(len(ids)))
    rejects = [[file, block.first_row + i, ids[i], why] for i, why in sorted(block.faults.items())]
    if rejects:
        keep = [i for i in keep if i not in block.faults]
        ids, x = [ids[i] for i in keep], x[keep]
    if ids and len(ids) < block_rows:
        x = np.pad(x, ((0, block_rows - len(ids)), (0, 0)), "edge")
    records = [block.first_row + i for i in keep]
    return InputBlock(k, file, len(block.ids), ids, records, x, rejects)


def _digest(bridge: predictor.Predictor, node_type: str) -> str:
    """Returns twelve hexadecimal digits that change with everything but the input."""
    digest = hashlib.sha256(repr(bridge.model).encode() + str(bridge.config.tables).encode())
    for array in jax.tree.leaves((bridge.params["model"], bridge.transforms[node_type])):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_reject(value: Any) -> bool:
    """Returns whether a value of a journal is file, row number, id and reason of a reject."""
    return isinstance(value, list) and [type(v) for v in value] == [str, int, str, str]


def _tsv_cell(value: object) -> str:
    return " ".join(str(value).split())
