"""Read embeddings that somebody already has: npz, npy + ids, parquet, or project shards."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.dataset import (
    file_name,
    node_table_from_json,
    read_manifest,
    read_nodes,
)
from bridge_jax.errors import InputError, unknown

SUFFIXES = (".npz", ".npy", ".parquet")
# BioBridge names its feature files by the first word of the type.
_SHORT = {
    "biological": "biological_process",
    "cellular": "cellular_component",
    "molecular": "molecular_function",
}


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


def matches(stem: str, node_type: str) -> bool:
    """Whether a file stem names a node type: `protein` and `gene_protein` name `gene/protein`."""
    stem = _SHORT.get(stem, stem)
    return stem in (node_type, file_name(node_type), node_type.split("/")[-1])


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
        return {t.name: _project_shards(folder, t) for t in tables}
    found: dict[str, Embeddings] = {}
    for sidecar in sorted(folder.glob("nodes/*.json")):
        value = json.loads(sidecar.read_text())
        id_column = value.pop("id_column", "node_id")
        table = node_table_from_json(value)
        part = _project_shards(folder, table)
        found[table.name] = Embeddings(part.ids, part.x, part.about, id_column)
    for path in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES):
        if path.stem in found:
            raise InputError(f"{folder}: {path.stem} is there in two formats; keep one")
        found[path.stem] = read_file(path)
    if not found:
        raise InputError(f"{folder}: no embeddings; expected <type>{', <type>'.join(SUFFIXES)}")
    return found


def _project_shards(folder: Path, table: Any) -> Embeddings:
    ids, x = read_nodes(folder, table)
    about = {k: getattr(table, k) for k in ("encoder", "pooling", "source", "licence", "failed")}
    return Embeddings(ids, x, about)


def read_file(path: Path) -> Embeddings:
    """Read one `.npz`, `.npy` (+ `.ids.txt`) or `.parquet` file.

    Raises:
      InputError: an array is missing, is not `[n, dim]` floats, or does not match its ids.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                missing = {"ids", "x"} - set(arrays.files)
                if missing:
                    raise InputError(f"{path}: no array {missing.pop()!r}; it needs `ids` and `x`")
                ids, x = [str(i) for i in arrays["ids"]], arrays["x"]
        elif path.suffix == ".npy":
            names = path.with_suffix(".ids.txt")
            if not names.is_file():
                raise InputError(f"{path}: {names.name} is missing; it holds one id a line")
            ids, x = names.read_text().splitlines(), np.load(path, allow_pickle=False)
        else:
            ids, x = _parquet(path)
    except (ValueError, EOFError, OSError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"{path}: cannot be read: {e}") from e
    if x.ndim != 2 or len(x) != len(ids):
        raise InputError(f"{path}: {len(ids)} ids but embeddings of shape {x.shape}")
    if x.dtype == np.float64:
        x = x.astype(np.float32)
    return Embeddings(ids, x, {})


def _parquet(path: Path) -> tuple[list[str], np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name in ("id", "embedding"):
        if name not in table.column_names:
            raise unknown("column", name, table.column_names, str(path))
    ids = [str(i) for i in table["id"].to_pylist()]
    lists = table["embedding"].combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    if len(flat) % max(len(ids), 1):
        raise InputError(f"{path}: the embeddings have different lengths")
    return ids, flat.reshape(len(ids), -1)
