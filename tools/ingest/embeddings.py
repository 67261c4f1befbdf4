"""Reader of precomputed embeddings: npz, npy with ids, parquet, or the project's shards."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.embedding_files import SUFFIXES, ParquetFile, open_embedding_file, read_sidecar
from bridge_jax.data.manifest import NodeTable, read_manifest
from bridge_jax.errors import InputError

_ROWS = 1 << 16  # read at a time


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of one node type, with ids as in their source.

    Attributes:
      ids: One id per row.
      x: `[n, dim]` vectors, float32, float16 or bfloat16.
      metadata: Those of `encoder`, `pooling`, `source`, `licence` and `failed` that are known.
      id_column: `node_id`, or `node_index` if the ids are PrimeKG's node indices.
    """

    ids: list[str]
    x: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)
    id_column: str = "node_id"


def read_folder(folder: Path) -> dict[str, Embeddings]:
    """Reads all embedding files of a folder.

    Args:
      folder: A dataset directory, the output of `tools.export_embeddings`, or a folder of
        `<type>.npz` (arrays `ids` and `x`), `<type>.npy` with `<type>.ids.txt`, or
        `<type>.parquet` (columns `id` and `embedding`).

    Returns:
      Embeddings by file stem; by node type for the project's shards.

    Raises:
      InputError: The folder contains no embeddings, or a file cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of embeddings")
    if (folder / "manifest.json").is_file():
        tables = read_manifest(folder).node_types
        return {t.name: read_shards(folder, t) for t in tables if t.count}
    embeddings: dict[str, Embeddings] = {}
    for sidecar in sorted(folder.glob("nodes/*.json")):
        table, id_column = read_sidecar(sidecar)
        embeddings[table.name] = read_shards(folder, table, id_column)
    for path in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES):
        if path.stem in embeddings:
            raise InputError(f"{folder}: {path.stem} is there in two formats; keep one")
        embeddings[path.stem] = read_file(path)
    if not embeddings:
        raise InputError(f"{folder}: no embeddings; expected <type>{', <type>'.join(SUFFIXES)}")
    return embeddings


def read_shards(folder: str | Path, table: NodeTable, id_column: str = "node_id") -> Embeddings:
    """Reads one node type from the project's shards.

    Args:
      folder: A dataset directory, or the output of `tools.export_embeddings`.
      table: Manifest entry of the node type.
      id_column: `node_id` or `node_index`; default: `node_id`.

    Raises:
      InputError: A shard is missing or damaged.
    """
    ids, x = read_nodes(folder, table)
    keys = ("encoder", "pooling", "source", "licence", "failed")
    return Embeddings(ids, x, {k: getattr(table, k) for k in keys}, id_column)


def read_file(path: Path) -> Embeddings:
    """Reads one `.npz`, `.npy` (with `.ids.txt`) or `.parquet` file.

    Args:
      path: The file; float64 becomes float32.

    Raises:
      InputError: An array is missing, is not `[n, dim]` floats, or does not match its ids.
    """
    file = open_embedding_file(path)
    dim = file.dim
    if isinstance(file, ParquetFile) and not dim:
        dim = file.first_dim()
    ids: list[str] = []
    chunks = [np.zeros((0, dim), np.float32)]
    for block in file.blocks(0, file.num_rows, _ROWS, dim):
        for row, fault in block.faults.items():
            raise InputError(
                f"{path}: embeddings of different lengths, or without a value: row "
                f"{block.first_row + row}: {fault}"
            )
        ids += block.ids
        chunks.append(block.x)
    return Embeddings(ids, np.concatenate(chunks[1:] or chunks))
