"""Input of a projection: the files of a node type, cut into slices, and their faulty rows.

Each slice becomes one output shard. It is an input shard, a file, or `MAX_SLICE_ROWS` rows of a
longer file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.dataset import vector_faults
from bridge_jax.data.embedding_files import (
    DEFAULT,
    EmbeddingBlock,
    EmbeddingFile,
    ReadOptions,
    ShardFile,
    open_embedding_file,
    read_sidecar,
    stem_matches_type,
    stem_of,
)
from bridge_jax.data.embedding_formats.folder import check_stems, list_folder
from bridge_jax.data.manifest import NodeTable, file_name, read_manifest
from bridge_jax.errors import InputError

MAX_SLICE_ROWS = 1 << 18


class FileSlice(NamedTuple):
    """Consecutive rows of a file.

    Attributes:
      file: Index of the file in `EmbeddingSource.files`.
      start: First row.
      stop: Row after the last.
    """

    file: int
    start: int
    stop: int


@dataclass(frozen=True)
class EmbeddingSource:
    """All embeddings of one node type in an input.

    Attributes:
      dim: Dimension of the embeddings.
      files: Files in the order of their rows.
      slices: Slices in the order of their rows, one for each output shard.
      id_bytes: Length of the longest id in bytes.
      duplicates: (file, row) of each id that an earlier row has too.
    """

    dim: int
    files: tuple[EmbeddingFile, ...]
    slices: tuple[FileSlice, ...]
    id_bytes: int
    duplicates: frozenset[tuple[int, int]]

    @property
    def num_rows(self) -> int:
        """Number of rows of all files."""
        return sum(f.num_rows for f in self.files)

    def slice_rows(self, k: int) -> int:
        """Returns the number of rows of slice k."""
        return self.slices[k].stop - self.slices[k].start

    def fingerprint(self) -> list[Any]:
        """Returns JSON values that change when the content of the input changes."""
        return [[*f.fingerprint, f.num_rows] for f in self.files]

    def blocks(self, k: int, block_rows: int) -> Iterator[EmbeddingBlock]:
        """Yields slice k in blocks, each with all its faulty rows.

        Args:
          k: Index of the slice.
          block_rows: Number of rows per block.
        """
        i_file, start, stop = self.slices[k]
        file = self.files[i_file]
        for block in file.blocks(start, stop, block_rows, self.dim):
            faults = dict(block.faults)
            if block.x.shape[1] != self.dim:
                fault = f"dimension {block.x.shape[1]} where {self.dim} is needed"
                faults = dict.fromkeys(range(len(block.ids)), fault)
            else:
                faults = dict(vector_faults(block.x)) | faults
            if not file.has_checked_ids:
                for i, name in enumerate(block.ids):
                    if not name or not name.isprintable():
                        faults.setdefault(i, "an empty id, or one with a control character")
                    elif self.duplicates and (i_file, block.first_row + i) in self.duplicates:
                        faults.setdefault(i, "an id that an earlier record has too")
            yield block._replace(faults=faults)


def open_source(
    path: Path,
    node_type: str,
    dim: int,
    other_types: Sequence[str] = (),
    options: ReadOptions = DEFAULT,
) -> EmbeddingSource:
    """Opens all embeddings of one node type and scans their ids.

    Args:
      path: A dataset directory, the output of `tools.export_embeddings` or `bridge_jax.project`, a
        file, or a folder of files. Of a folder, the files named for the type are read (`drug.npy`,
        `drug-00000-of-00004.parquet`), or else all files not named for another type.
      node_type: Node type of the embeddings.
      dim: Dimension that they must have.
      other_types: Node types whose files are not read.
      options: How a file is read if its content does not decide.

    Raises:
      InputError: There are no embeddings, they cannot be read, or none has the dimension.
    """
    files = tuple(find_files(path, node_type, other_types, options))
    if not sum(f.num_rows for f in files):
        raise InputError(f"{path}: contains no vector of {node_type}")
    wrong = [f for f in files if f.dim not in (0, dim)]
    if len(wrong) == len(files):
        raise InputError(
            f"{wrong[0].path}: vectors of dimension {wrong[0].dim}; {node_type} of this run has "
            f"{dim}: use the encoder that it was trained with"
        )
    slices = []
    for i, file in enumerate(files):
        size = file.num_rows if isinstance(file, ShardFile) else MAX_SLICE_ROWS
        starts = range(0, file.num_rows, size or 1)
        slices += [FileSlice(i, start, min(start + size, file.num_rows)) for start in starts]
    id_bytes, duplicates = scan_ids(files)
    return EmbeddingSource(dim, files, tuple(slices), id_bytes, frozenset(duplicates))


def find_files(
    path: Path,
    node_type: str,
    other_types: Sequence[str] = (),
    options: ReadOptions = DEFAULT,
) -> list[EmbeddingFile]:
    """Opens the files that hold a node type's embeddings; see `open_source`.

    Raises:
      InputError: There is no such file, or one cannot be read.
    """
    if path.is_file():
        return [open_embedding_file(path, options)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if (path / "manifest.json").is_file():
        return _shard_files(path, read_manifest(path).table(node_type))
    sidecar, spec = path / "nodes" / f"{file_name(node_type)}.json", None
    if sidecar.is_file():
        table, _ = read_sidecar(sidecar)
        spec = table.encoder_spec
        if any(s.file.endswith(".tfrecord") for s in table.shards):
            return _shard_files(path, table)
    candidates: list[Path] = []
    errors: dict[Path, InputError] = {}
    for folder in (path, path / "nodes"):
        if folder.is_dir():
            listing = list_folder(folder, options)
            candidates += listing.paths
            errors |= listing.errors
    named = [p for p in (*candidates, *errors) if stem_matches_type(_stem(p), node_type)]
    paths = named or [
        p
        for p in (*candidates, *errors)
        if not any(stem_matches_type(_stem(p), other) for other in other_types)
    ]
    for p in paths:
        if p in errors:
            raise errors[p]
    if not named and len(paths) > 1 and all(p.suffix == ".pt" for p in paths):
        return [open_embedding_file(path, options)]  # the output folder of ESM
    if not paths:
        raise InputError(
            f"{path}: no vectors of {node_type}; expected a dataset directory, or "
            f"{file_name(node_type)}.npz, .npy, .parquet, .h5, .h5ad, .pt, .safetensors or .csv"
        )
    check_stems(path, paths)
    files = [open_embedding_file(p, options) for p in paths]
    for file in files:
        file.encoder_spec = file.encoder_spec or spec
    return files


def scan_ids(files: Iterable[EmbeddingFile]) -> tuple[int, set[tuple[int, int]]]:
    """Reads all ids of the files that were not checked when they were written.

    Memory holds one hash per id, and the ids themselves only where hashes collide.

    Returns:
      Length of the longest id in bytes, and (file, row) of each id that an earlier row has too.
    """
    id_bytes, hashes, unchecked = 1, [], []
    for i, file in enumerate(files):
        if isinstance(file, ShardFile):
            id_bytes = max(id_bytes, file.id_bytes)
            continue
        unchecked.append((i, file))
        for ids in file.ids():
            id_bytes = max(id_bytes, max(len(name.encode()) for name in ids))
            hashes.append(np.fromiter(map(hash, ids), np.int64, len(ids)))
    ordered = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.int64)
    repeated_hashes = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not repeated_hashes:
        return id_bytes, set()
    seen, duplicates = set(), set()
    for i, file in unchecked:
        row = 0
        for ids in file.ids():
            for name in ids:
                if hash(name) in repeated_hashes:
                    duplicates |= {(i, row)} if name in seen else set()
                    seen.add(name)
                row += 1
    return id_bytes, duplicates


def _shard_files(root: Path, table: NodeTable) -> list[EmbeddingFile]:
    if not table.shards:
        raise InputError(f"{root}: {table.name} has no vectors in this dataset")
    return [ShardFile(root, table, shard) for shard in table.shards]


def _stem(path: Path) -> str:
    """Returns `drug` for `drug.npy` and for `drug-00000-of-00004.npy`."""
    whole = stem_of(path)
    stem, _, number = whole.partition("-")
    return stem if number.replace("-of-", "").isdigit() else whole
