"""Reader of precomputed embeddings: files of all formats, or the project's shards."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import read_nodes, vector_faults
from bridge_jax.data.embedding_files import (
    DEFAULT,
    ReadOptions,
    open_embedding_file,
    read_sidecar,
    stem_of,
)
from bridge_jax.data.embedding_formats.folder import check_stems, list_folder
from bridge_jax.data.embedding_formats.ids import first_duplicate
from bridge_jax.data.encoder_spec import SPEC_KEY, check_same_encoder
from bridge_jax.data.manifest import NodeTable, read_manifest
from bridge_jax.errors import InputError

from ..formats.delimited import Finding

_ROWS = 1 << 16  # read at a time
_MAX_TENSOR_FILES = 64  # more are the output of ESM, one file per sequence


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of one node type, with ids as in their source.

    Attributes:
      ids: One id per row.
      x: `[n, dim]` vectors, float32, float16 or bfloat16.
      metadata: Those of `encoder`, `pooling`, `source`, `licence`, `failed` and `encoder_spec` that
        are known.
      id_column: `node_id`, or `node_index` if the ids are PrimeKG's node indices.
      file: Name of the file, for messages; empty for the project's shards.
    """

    ids: list[str]
    x: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)
    id_column: str = "node_id"
    file: str = ""


def read_folder(
    folder: Path, options: ReadOptions = DEFAULT, notices: list[Finding] | None = None
) -> dict[str, Embeddings]:
    """Reads all embedding files of a folder.

    Args:
      folder: A dataset directory, the output of `tools.export_embeddings`, or a folder of files
        named for the node types, such as `<type>.npz`; see `open_embedding_file` for the formats. A
        subfolder `<type>` may hold the `.pt` files of ESM.
      options: How a file is read if its content does not decide.
      notices: Receives the files that are not read, as they hold something else, and oddities of
        those that are; default: they go to standard error.

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
    sidecars = sorted(folder.glob("nodes/*.json"))
    for sidecar in sidecars:
        table, id_column = read_sidecar(sidecar)
        embeddings[table.name] = read_shards(folder, table, id_column)
    listing = list_folder(folder, options)
    for error in listing.errors.values():
        raise error
    check_stems(folder, listing.paths)
    num_tensors = sum(p.suffix == ".pt" and p.is_file() for p in listing.paths)
    if num_tensors > _MAX_TENSOR_FILES:
        raise InputError(
            f"{folder}: holds {num_tensors:,} .pt files; move ESM's output for the nodes of a type "
            f"to a subfolder with its name, such as {folder / 'protein'}"
        )
    found = [] if notices is None else notices
    for path in listing.paths:
        stem = stem_of(path)
        if stem in embeddings:
            raise InputError(f"{folder}: {stem} exists in two formats; keep one")
        embeddings[stem] = read_file(path, options, found)
    if sidecars:
        listing = listing._replace(others=[p for p in listing.others if p.name != "nodes"])
    if text := listing.notice():
        found.append(Finding(folder.name, 0, "files that are not read", text, 0))
    if not embeddings:
        raise InputError(
            f"{folder}: no embeddings; expected <type>.npz, .npy, .parquet, .h5, .h5ad, .pt, "
            f".safetensors or .csv{'; ' * bool(text)}{text}"
        )
    if notices is None:
        for finding in found:
            print(f"notice: {finding.text}", file=sys.stderr)
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
    keys = ("encoder", "pooling", "source", "licence", "failed", SPEC_KEY)
    return Embeddings(ids, x, {k: getattr(table, k) for k in keys}, id_column)


def read_file(
    path: Path, options: ReadOptions = DEFAULT, notices: list[Finding] | None = None
) -> Embeddings:
    """Reads one file of embeddings.

    Args:
      path: The file, or a folder of ESM's `.pt` files; float64 becomes float32.
      options: How it is read if its content does not decide.
      notices: Receives oddities that cost no vector.

    Raises:
      InputError: An array is missing, is not `[n, dim]` floats, or does not match its ids; an id
        occurs twice; or a vector is not finite or all zero.
    """
    file = open_embedding_file(path, options)
    dim = file.dim or file.first_dim()
    ids: list[str] = []
    chunks = [np.zeros((0, dim), np.float32)]
    for block in file.blocks(0, file.num_rows, _ROWS, dim):
        faults = dict(vector_faults(block.x)) | block.faults
        for row in sorted(faults):
            raise InputError(
                f"{path}: row {block.first_row + row}, id {block.ids[row]!r}: {faults[row]}; drop "
                "the id or encode it again"
            )
        ids += block.ids
        chunks.append(block.x)
    if "" in ids:
        raise InputError(f"{path}: row {ids.index('')} has no id; give it one or drop it")
    if repeated := first_duplicate(ids):
        name, first, second = repeated
        raise InputError(
            f"{path}: id {name!r} occurs twice, in rows {first} and {second}; average or drop one"
        )
    if notices is not None:
        notices += [Finding(path.name, 0, "encoding", text, 0) for text in file.notices]
    metadata: dict[str, Any] = {}
    if spec := file.encoder_spec:
        metadata = {"encoder": spec.encoder, "pooling": spec.pooling or "unknown", SPEC_KEY: spec}
    return Embeddings(ids, np.concatenate(chunks[1:] or chunks), metadata, file=path.name)


def check_encoders(output: Path, embeddings: Mapping[str, Embeddings], allow_other: bool) -> None:
    """Checks that embeddings which replace those of a dataset were made by the same encoders.

    Args:
      output: Dataset directory; it need not hold a dataset yet.
      embeddings: New embeddings by node type.
      allow_other: Whether other encoders are accepted.

    Raises:
      InputError: The specification of a node type's encoder is another one.
    """
    try:
        tables = read_manifest(output).node_types
    except InputError:
        return  # no dataset, or a damaged one
    for table in tables:
        if table.encoder_spec and table.name in embeddings:
            new = embeddings[table.name].metadata.get(SPEC_KEY)
            noun = f"{output}: {table.name}"
            check_same_encoder(noun, table.encoder_spec, new, allow_other)
