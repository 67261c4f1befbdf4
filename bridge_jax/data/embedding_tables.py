"""Frozen embeddings in memory, and the affine transform that is applied before the model."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.graph import Graph
from bridge_jax.data.manifest import Manifest, file_name
from bridge_jax.errors import InputError, unknown

TRANSFORMS = ("none", "standardise", "whiten")
# Directions below this fraction of the largest variance are noise and are not scaled up to 1.
_NOISE_FRACTION = 1e-4
_BLOCK_ROWS = 16384


@dataclass(frozen=True)
class EmbeddingTable:
    """Frozen embeddings of one node type and their transform.

    Attributes:
      ids: Id of each row.
      stored: Embeddings `[count, dim]` in the stored dtype; a view of a memory-mapped file.
      mean: Mean that the transform subtracts, float32 `[dim]`.
      matrix: Matrix of the transform, float32 `[dim, dim]`, or its diagonal `[dim]`.
    """

    ids: list[str]
    stored: Float[np.ndarray, "count dim"]
    mean: Float32[np.ndarray, " dim"]
    matrix: Float32[np.ndarray, "*dim dim"]

    def model_inputs(self, nodes: slice | Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        """Returns the transformed embeddings of some nodes, `(stored - mean) @ matrix`.

        Args:
          nodes: Local ids, or a slice of them.
        """
        return apply_transform(self.stored[nodes], self.mean, self.matrix)

    def transform(self, x: Float[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
        """Transforms new embeddings of the same encoder like those of the table.

        Args:
          x: Embeddings as the encoder returns them.

        Raises:
          InputError: The embeddings have another dimension than the table.
        """
        if x.shape[1] != len(self.mean):
            raise InputError(
                f"embeddings have dimension {x.shape[1]}; this table has {len(self.mean)}"
            )
        return apply_transform(x, self.mean, self.matrix)


class Transform(NamedTuple):
    """Affine transform `(x - mean) @ matrix`; a matrix `[dim]` is the diagonal of one.

    Attributes:
      mean: Float32 `[dim]`.
      matrix: Float32 `[dim]` or `[dim, dim]`.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def from_table(cls, table: EmbeddingTable) -> "Transform":
        """Returns the transform of a table."""
        return cls(table.mean, table.matrix)


def mean_and_scale(
    x: Float[np.ndarray, "count dim"], rows: Int[np.ndarray, "n"]
) -> tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, " dim"]]:
    """Computes mean and inverse standard deviation of each dimension over some rows.

    Args:
      x: Embeddings `[count, dim]`.
      rows: Rows to use, e.g. the training nodes.

    Returns:
      `mean` and `scale`, such that each dimension of `(x - mean) * scale` has mean 0 and variance 1
      over the rows. A constant dimension has scale 0.
    """
    mean = sum(b.sum(axis=0, dtype=np.float64) for b in _blocks(x, rows)) / max(len(rows), 1)
    squares = sum(np.square(b - mean).sum(axis=0) for b in _blocks(x, rows))
    deviation = np.sqrt(squares / max(len(rows), 1))
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _blocks(x: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yields some rows in blocks, because a table may be larger than the memory."""
    return (x[rows[start : start + _BLOCK_ROWS]] for start in range(0, len(rows), _BLOCK_ROWS))


def whitening_matrix(x: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "dim dim"]:
    """Computes the matrix that decorrelates centred data and gives each direction variance 1.

    Directions with less than 1e-4 of the largest variance are scaled like those that have as much.

    Args:
      x: Centred data `[n, dim]`.

    Returns:
      Matrix such that the columns of `x @ matrix` are uncorrelated.
    """
    covariance = x.astype(np.float64).T @ x / max(len(x) - 1, 1)
    variance, axes = np.linalg.eigh(covariance)
    floor = max(_NOISE_FRACTION * variance[-1], 1e-12)
    return np.asarray(axes / np.sqrt(np.maximum(variance, floor)), np.float32)


def fit_transform(
    x: Float[np.ndarray, "count dim"], rows: Int[np.ndarray, "n"], transform: str
) -> tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, "*dim dim"]]:
    """Fits the affine transform that the config field `tables.transform` names.

    Args:
      x: Embeddings `[count, dim]`.
      rows: Rows to fit on, e.g. the training nodes.
      transform: `none`; `standardise`, which gives each dimension variance 1; or `whiten`, which
        also decorrelates them. Protein encoders have most of their variance in few directions.

    Returns:
      `mean` and `matrix` of `EmbeddingTable`.

    Raises:
      InputError: The transform is unknown.
    """
    if transform not in TRANSFORMS:
        raise unknown("tables.transform", transform, TRANSFORMS, "this version")
    if transform == "none":
        return np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    mean, scale = mean_and_scale(x, rows)
    if transform == "whiten":
        return mean, scale[:, None] * whitening_matrix(apply_transform(x[rows], mean, scale))
    return mean, scale


def apply_transform(
    x: Float[np.ndarray, "n dim"],
    mean: Float32[np.ndarray, " dim"],
    matrix: Float32[np.ndarray, "*dim dim"],
) -> Float32[np.ndarray, "n dim"]:
    """Computes `(x - mean) @ matrix` in float32; a matrix `[dim]` is the diagonal of one."""
    centred = x.astype(np.float32) - mean
    return centred * matrix if matrix.ndim == 1 else centred @ matrix


def l2_normalise(x: Float32[np.ndarray, "count dim"]) -> Float32[np.ndarray, "count dim"]:
    """Scales each row to length 1; a row of zeros stays one."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def load_tables(
    root: str | Path, manifest: Manifest, graph: Graph, transform: str
) -> dict[str, EmbeddingTable]:
    """Reads and checks the embeddings of a dataset, and fits a transform for each node type.

    Args:
      root: Dataset directory.
      manifest: Manifest of the dataset.
      graph: Split graph; transforms are fitted on its training nodes only.
      transform: One of `TRANSFORMS`.

    Returns:
      Tables by node type, without the types that have no embeddings.

    Raises:
      InputError: A shard is damaged, a row has a NaN or an infinity or is all zero, or the
        transform is unknown.
    """
    tables = {}
    for entry in (t for t in manifest.node_types if t.count):
        ids, stored = read_nodes(root, entry)
        mean, matrix = fit_transform(stored, graph.nodes_to_fit_on(entry.name), transform)
        tables[entry.name] = EmbeddingTable(ids, stored, mean, matrix)
    return tables


def read_names(root: str | Path, manifest: Manifest, node_type: str) -> dict[str, str]:
    """Reads the names of the nodes of one type from `nodes/<type>.tsv`.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      node_type: Node type.

    Returns:
      Names by id; empty if there is no such file and the manifest has no digest of it.

    Raises:
      InputError: The file was changed or removed after the dataset was written.
    """
    path = Path(root) / f"nodes/{file_name(node_type)}.tsv"
    stored = manifest.names.get(node_type)
    if not path.is_file() and stored is None:
        return {}
    raw = path.read_bytes() if path.is_file() else b""
    if stored is not None and hashlib.sha256(raw).hexdigest() != stored:
        raise InputError(
            f"{path}: its sha256 is not that of the manifest: a name was changed; restore it or "
            "write the dataset again"
        )
    lines = raw.decode().splitlines()[1:]
    fields = (line.partition("\t") for line in lines)
    return {node_id: name for node_id, _, name in fields}
