"""Read embeddings that somebody already has: npz, npy + ids, parquet, or project shards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import NodeTable, read_manifest, read_nodes
from bridge_jax.data.embedding_files import SUFFIXES, ParquetFile, open_vectors, read_sidecar
from bridge_jax.errors import InputError

_ROWS = 1 << 16


@dataclass(frozen=True)
class Embeddings:
    """One node type's embeddings as they came.

    Attributes:
      ids: one id a row.
      x: `[n, dim]`, float32, float16 or bfloat16.
      about: encoder, pooling, source, licence, failed, as far as known.
      id_column: `node_id`, or `node_index` where the ids are PrimeKG's node indices.
    """

    ids: list[str]
    x: np.ndarray
    about: dict[str, Any]
    id_column: str = "node_id"


def read_folder(folder: Path) -> dict[str, Embeddings]:
    """Read every embedding file of a folder.

    Args:
      folder: holds `<type>.npz` (arrays `ids`, `x`), `<type>.npy` beside `<type>.ids.txt`,
        `<type>.parquet` (columns `id`, `embedding`), or is a dataset directory or the output of
        `tools.export_embeddings`.

    Returns:
      File stem (or node type, for project shards) to its embeddings.

    Raises:
      InputError: the folder has none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of embeddings")
    if (folder / "manifest.json").is_file():
        tables = read_manifest(folder).node_types
        return {t.name: read_shards(folder, t) for t in tables if t.count}
    found: dict[str, Embeddings] = {}
    for sidecar in sorted(folder.glob("nodes/*.json")):
        table, id_column = read_sidecar(sidecar)
        part = read_shards(folder, table)
        found[table.name] = Embeddings(part.ids, part.x, part.about, id_column)
    for path in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES):
        if path.stem in found:
            raise InputError(f"{folder}: {path.stem} is there in two formats; keep one")
        found[path.stem] = read_file(path)
    if not found:
        raise InputError(f"{folder}: no embeddings; expected <type>{', <type>'.join(SUFFIXES)}")
    return found


def read_shards(folder: str | Path, table: NodeTable) -> Embeddings:
    """Read one node type of project shards, with what its table says of it.

    Args:
      folder: a dataset directory, or one that `tools.export_embeddings` wrote.
      table: of the type.

    Raises:
      InputError: a shard is missing or damaged.
    """
    ids, x = read_nodes(folder, table)
    about = {k: getattr(table, k) for k in ("encoder", "pooling", "source", "licence", "failed")}
    return Embeddings(ids, x, about)


def read_file(path: Path) -> Embeddings:
    """Read one `.npz`, `.npy` (+ `.ids.txt`) or `.parquet` file.

    Args:
      path: the file; float64 is stored as float32.

    Raises:
      InputError: an array is missing, is not `[n, dim]` floats, or does not match its ids.
    """
    file = open_vectors(path)
    dim = file.dim
    if isinstance(file, ParquetFile) and not dim:
        dim = file.first_length()
    ids: list[str] = []
    parts = [np.zeros((0, dim), np.float32)]
    for block in file.blocks(0, file.rows, _ROWS, dim):
        for row, what in block.faults.items():
            raise InputError(
                f"{path}: embeddings of different lengths, or without a value: row "
                f"{block.first + row}: {what}"
            )
        ids += block.ids
        parts.append(block.x)
    return Embeddings(ids, np.concatenate(parts[1:] or parts), {})
