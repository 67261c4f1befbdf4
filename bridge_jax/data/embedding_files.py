"""Files of embeddings with ids, read in blocks, and the sidecars that describe shards.

Only the current block is in memory, so a file may be larger than the memory of the machine. The
formats are in `bridge_jax.data.embedding_formats`.
"""

import json
from pathlib import Path

from bridge_jax.data.embedding_formats import detect
from bridge_jax.data.embedding_formats.base import (
    DEFAULT,
    EmbeddingBlock,
    EmbeddingFile,
    ReadOptions,
    named_errors,
)
from bridge_jax.data.embedding_formats.detect import SUFFIXES
from bridge_jax.data.embedding_formats.npy import NpyFile
from bridge_jax.data.embedding_formats.npz import open_npz
from bridge_jax.data.embedding_formats.parquet import ParquetFile, import_parquet
from bridge_jax.data.embedding_formats.shards import ShardFile
from bridge_jax.data.embedding_formats.text_matrix import TextMatrixFile, opener
from bridge_jax.data.encoder_spec import read_spec_beside
from bridge_jax.data.manifest import NodeTable, file_name, node_table_from_json
from bridge_jax.errors import InputError

__all__ = [
    "DEFAULT",
    "SUFFIXES",
    "EmbeddingBlock",
    "EmbeddingFile",
    "ReadOptions",
    "ShardFile",
    "import_parquet",
    "open_embedding_file",
    "read_sidecar",
    "stem_matches_type",
    "stem_of",
]


def open_embedding_file(path: Path, options: ReadOptions = DEFAULT) -> EmbeddingFile:
    """Opens a file of embeddings, or a folder of ESM's `.pt` files.

    The content decides how it is read: NumPy (`.npz`; `.npy` with `.ids.txt`), Parquet, HDF5,
    AnnData, PyTorch, safetensors, CSV, TSV or word2vec text.

    Args:
      path: Path of the file.
      options: How the file is read if its content does not decide.

    Raises:
      InputError: The file has another format, is incomplete or cannot be read.
    """
    with named_errors(path):
        file = _open(path, options)
    chosen = [options.pool, options.layer, options.key, options.id_key]
    file.fingerprint += chosen if any(c not in ("", None) for c in chosen) else []
    file.encoder_spec = read_spec_beside(path)
    return file


def _open(path: Path, options: ReadOptions) -> EmbeddingFile:
    if path.is_dir():
        from bridge_jax.data.embedding_formats.torch_tensors import EsmFolder

        return EsmFolder(path, options)
    if path.suffix == ".tfrecord":
        raise InputError(
            f"{path}: a single shard does not name its node type; give the folder that lists it"
        )
    found = detect.detect(path)
    if found is detect.EMPTY:
        raise InputError(f"{path}: cannot be read: it is empty; {found.remedy}")
    if found is detect.GZIP and is_gzipped_text(path):
        return TextMatrixFile(path, options)
    if path.suffix.lower() not in found.suffixes:
        raise detect.refuse(path, found)
    match found.name:
        case "npz":
            return open_npz(path, options)
        case "npy":
            return NpyFile(path, options)
        case "parquet":
            return ParquetFile(path, options)
        case "hdf5":
            from bridge_jax.data.embedding_formats.hdf5 import open_hdf5

            return open_hdf5(path, options)
        case "torch" | "safetensors":
            from bridge_jax.data.embedding_formats.torch_tensors import open_tensors

            return open_tensors(path, found, options)
        case _:
            return TextMatrixFile(path, options)


def is_gzipped_text(path: Path) -> bool:
    """Returns whether a file has the name and the content of gzipped text."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    if len(suffixes) < 2 or suffixes[0] not in detect.TEXT.suffixes:
        return False
    try:
        with opener(path)() as handle:
            return detect.format_of_text(handle.read(4096)) is detect.TEXT
    except (OSError, EOFError, ValueError):
        return True  # damaged; the reader says how


def stem_of(path: Path) -> str:
    """Returns `drug` for `drug.npy` and `drug.csv.gz`, and the name of a folder."""
    if path.is_dir():
        return path.name
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


# BioBridge names its feature files by the first word of the type.
_BIOBRIDGE_STEMS = {
    "biological": "biological_process",
    "cellular": "cellular_component",
    "molecular": "molecular_function",
}


def stem_matches_type(stem: str, node_type: str) -> bool:
    """Returns whether a file stem names a node type.

    Both `protein` and `gene_protein` name `gene/protein`.
    """
    stem = _BIOBRIDGE_STEMS.get(stem, stem)
    return stem in (node_type, file_name(node_type), node_type.split("/")[-1])


def read_sidecar(path: Path) -> tuple[NodeTable, str]:
    """Reads `nodes/<type>.json`, which describes the shards of an exported node type.

    Args:
      path: The JSON file.

    Returns:
      Entry for a manifest, and the name of the column that the ids come from.

    Raises:
      InputError: The file cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
        id_column = str(value.pop("id_column", "node_id"))
        return node_table_from_json(value), id_column
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: cannot be read: {e!r}; export the type again") from e
