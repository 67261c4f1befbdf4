"""Read embeddings that somebody already has: npz, npy + ids, parquet, or project shards."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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
        return {t.name: _project_shards(folder, t) for t in tables if t.count}
    found: dict[str, Embeddings] = {}
    for sidecar in sorted(folder.glob("nodes/*.json")):
        try:
            value = json.loads(sidecar.read_bytes())
            id_column = value.pop("id_column", "node_id")
            table = node_table_from_json(value)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(f"{sidecar}: cannot be read: {e!r}; export the type again") from e
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

    Args:
      path: the file; float64 is stored as float32.

    Raises:
      InputError: an array is missing, is not `[n, dim]` floats, or does not match its ids.
    """
    try:
        if path.suffix == ".npz":
            with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as arrays:
                missing = sorted({"ids", "x"} - set(arrays.files))
                if missing:
                    raise InputError(f"{path}: no array {missing[0]!r}; it needs `ids` and `x`")
                ids, x = _texts(arrays["ids"]), arrays["x"]
        elif path.suffix == ".npy":
            names = path.with_suffix(".ids.txt")
            if not names.is_file():
                raise InputError(f"{path}: {names.name} is missing; it holds one id a line")
            ids = names.read_text(encoding="utf-8").splitlines()
            with open(path, "rb") as handle:
                x = np.load(handle, allow_pickle=False)
        else:
            ids, x = _parquet(path)
    except InputError:
        raise
    except (ValueError, EOFError, OSError, BadZipFile, zlib.error, pa.ArrowException) as e:
        raise InputError(f"{path}: cannot be read: {' '.join(str(e).split())}") from e
    if x.ndim != 2 or len(x) != len(ids):
        raise InputError(f"{path}: {len(ids)} ids but embeddings of shape {x.shape}")
    if x.dtype.newbyteorder("=") == np.float64:
        x = x.astype(np.float32)
    return Embeddings([i.strip() for i in ids], x.astype(x.dtype.newbyteorder("="), copy=False), {})


def _texts(ids: np.ndarray) -> list[str]:
    """Ids as they were meant: text, bytes of UTF-8, or whole numbers."""
    if ids.dtype.kind == "S":
        return [i.decode() for i in ids.ravel().tolist()]
    if ids.dtype.kind not in "Uiu":
        raise InputError(f"ids must be text or whole numbers, not {ids.dtype}")
    return [str(i) for i in ids.ravel().tolist()]


def _parquet(path: Path) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(path)
    for name in ("id", "embedding"):
        if name not in table.column_names:
            raise unknown("column", name, table.column_names, str(path))
    lists = table["embedding"].combine_chunks()
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise InputError(f"{path}: embeddings of different lengths, or without a value: {lengths}")
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return [str(i) for i in table["id"].to_pylist()], flat.reshape(-1, lengths[0])
