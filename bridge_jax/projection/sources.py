"""What a projection reads: the files that an input means, cut into parts, and their faults.

A *part* is what becomes one output shard: a shard, a file, or `SPLIT` rows of a longer file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import (
    NodeTable,
    file_name,
    read_manifest,
    vector_faults,
)
from bridge_jax.data.embedding_files import (
    SUFFIXES,
    Block,
    ShardFile,
    VectorFile,
    matches,
    open_vectors,
    read_sidecar,
)
from bridge_jax.errors import InputError

SPLIT = 1 << 18  # rows of a long file that make a part


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of a file, by its place among the files."""

    file: int
    start: int
    stop: int


@dataclass(frozen=True)
class Source:
    """All vectors of an input.

    Attributes:
      dim: what a vector must have.
      files: in order.
      parts: in order.
      id_bytes: of the longest id.
      repeated: (file, row) of each id that an earlier row has too.
    """

    dim: int
    files: tuple[VectorFile, ...]
    parts: tuple[Part, ...]
    id_bytes: int
    repeated: frozenset[tuple[int, int]]

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(f.rows for f in self.files)

    def size(self, k: int) -> int:
        """Rows of part `k`."""
        return self.parts[k].stop - self.parts[k].start

    def identity(self) -> list[Any]:
        """JSON values that change when the content of the input does."""
        return [[*f.identity, f.rows] for f in self.files]

    def blocks(self, k: int, size: int) -> Iterator[Block]:
        """Part `k` in blocks of `size` rows, with every fault that the input itself has."""
        part = self.parts[k]
        file = self.files[part.file]
        for block in file.blocks(part.start, part.stop, size, self.dim):
            faults = dict(block.faults)
            if block.x.shape[1] != self.dim:
                what = f"dimension {block.x.shape[1]} where {self.dim} is needed"
                faults = dict.fromkeys(range(len(block.ids)), what)
            else:
                faults = dict(vector_faults(block.x)) | faults
            if not file.checked:
                for i, name in enumerate(block.ids):
                    if not name or not name.isprintable():
                        faults.setdefault(i, "an empty id, or one with a control character")
                    elif self.repeated and (part.file, block.first + i) in self.repeated:
                        faults.setdefault(i, "an id that an earlier record has too")
            yield block._replace(faults=faults)


def open_source(path: Path, node_type: str, dim: int, others: Sequence[str] = ()) -> Source:
    """Find and survey the vectors of one node type.

    Args:
      path: a dataset directory, the output of `tools.export_embeddings` or `project`, a file, or a
        folder of files: those named for the type (`drug.npy`, `drug-00000-of-00004.parquet`), else
        all that are not named for another type.
      node_type: whose vectors.
      dim: what they must have.
      others: the other node types.

    Raises:
      InputError: nothing is there, it cannot be read, or no vector can have the dimension.
    """
    files = tuple(find_files(path, node_type, others))
    if not sum(f.rows for f in files):
        raise InputError(f"{path}: holds no vector of {node_type}")
    wrong = [f for f in files if f.dim not in (0, dim)]
    if len(wrong) == len(files):
        raise InputError(
            f"{wrong[0].path}: vectors of dimension {wrong[0].dim}; {node_type} of this run has "
            f"{dim}: use the encoder that it was trained with"
        )
    parts = []
    for i, file in enumerate(files):
        step = file.rows if isinstance(file, ShardFile) else SPLIT
        parts += [Part(i, at, min(at + step, file.rows)) for at in range(0, file.rows, step or 1)]
    width, repeated = survey(files)
    return Source(dim, files, tuple(parts), width, frozenset(repeated))


def find_files(path: Path, node_type: str, others: Sequence[str] = ()) -> list[VectorFile]:
    """The files that hold a node type's vectors; see `open_source`.

    Raises:
      InputError: there is none, or one cannot be read.
    """
    if path.is_file():
        return [open_vectors(path)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if (path / "manifest.json").is_file():
        return _shards(path, read_manifest(path).table(node_type))
    sidecar = path / "nodes" / f"{file_name(node_type)}.json"
    if sidecar.is_file():
        table, _ = read_sidecar(sidecar)
        if any(s.file.endswith(".tfrecord") for s in table.shards):
            return _shards(path, table)
    found = sorted(p for f in (path, path / "nodes") for p in f.glob("*") if p.suffix in SUFFIXES)
    named = [p for p in found if matches(_stem(p), node_type)]
    rest = [p for p in found if not any(matches(_stem(p), other) for other in others)]
    if not (named or rest):
        raise InputError(
            f"{path}: no vectors of {node_type}; expected a dataset directory, or "
            f"{file_name(node_type)}{' or '.join(SUFFIXES)}"
        )
    stems = [p.with_suffix("") for p in named or rest]
    for twice in (s for s in stems if stems.count(s) > 1):
        raise InputError(f"{path}: {twice.name} is there in two formats; keep one")
    return [open_vectors(p) for p in named or rest]


def survey(files: Iterable[VectorFile]) -> tuple[int, set[tuple[int, int]]]:
    """Look at every id of the files that were not checked when they were written.

    Returns:
      Bytes of the longest id, and (file, row) of each id that an earlier row has too.
    """
    width, hashes, unchecked = 1, [], []
    for i, file in enumerate(files):
        if isinstance(file, ShardFile):
            width = max(width, file.id_bytes)
            continue
        unchecked.append((i, file))
        for ids in file.ids():
            width = max(width, max(len(name.encode()) for name in ids))
            hashes.append(np.fromiter(map(hash, ids), np.int64, len(ids)))
    ordered = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.int64)
    doubtful = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not doubtful:
        return width, set()
    seen, repeated = set(), set()
    for i, file in unchecked:
        row = 0
        for ids in file.ids():
            for name in ids:
                if hash(name) in doubtful:
                    repeated |= {(i, row)} if name in seen else set()
                    seen.add(name)
                row += 1
    return width, repeated


def _shards(root: Path, table: NodeTable) -> list[VectorFile]:
    if not table.shards:
        raise InputError(f"{root}: {table.name} has no vectors in this dataset")
    return [ShardFile(root, table, shard) for shard in table.shards]


def _stem(path: Path) -> str:
    """`drug` for `drug.npy` and for `drug-00000-of-00004.npy`."""
    stem, _, number = path.stem.partition("-")
    return stem if number.replace("-of-", "").isdigit() else path.stem
