"""Embedding tables: shards to arrays, and the affine map to what the model reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from bridge_jax.data.dataset import Manifest, file_name, read_nodes
from bridge_jax.data.graph import Graph
from bridge_jax.errors import InputError, unknown

TRANSFORMS = ("none", "standardise", "whiten")
# Variance below this part of the largest is noise that whitening must not blow up.
_NOISE = 1e-4
_BLOCK = 16384


@dataclass(frozen=True)
class Table:
    """One node type's frozen embeddings.

    Attributes:
      ids: one id a row.
      stored: `[count, dim]` as it stands on disk, a view.
      mean: `[dim]`.
      matrix: `[dim, dim]`, or the diagonal `[dim]` of one.
    """

    ids: list[str]
    stored: Float[np.ndarray, "count dim"]
    mean: Float32[np.ndarray, " dim"]
    matrix: Float32[np.ndarray, "*dim dim"]

    def rows(self, nodes: slice | Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        """What the model reads of some nodes: `(stored - mean) @ matrix`."""
        return transformed(self.stored[nodes], self.mean, self.matrix)

    def prepare(self, stored: Float[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
        """Bring new embeddings of the same encoder into the form of `rows`.

        Raises:
          InputError: another dimension.
        """
        if stored.shape[1] != len(self.mean):
            raise InputError(
                f"embeddings have dimension {stored.shape[1]}; this table has {len(self.mean)}"
            )
        return transformed(stored, self.mean, self.matrix)


def statistics(
    x: Float[np.ndarray, "count dim"], rows: Int[np.ndarray, "n"]
) -> tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, " dim"]]:
    """Mean and inverse standard deviation of each dimension over some rows.

    Args:
      x: stored embeddings.
      rows: the nodes that training may see. A constant dimension gets scale 0.

    Returns:
      `mean` and `scale`, so that `(x - mean) * scale` has mean 0 and variance 1.
    """
    mean = sum(b.sum(axis=0, dtype=np.float64) for b in _blocks(x, rows)) / max(len(rows), 1)
    squares = sum(np.square(b - mean).sum(axis=0) for b in _blocks(x, rows))
    deviation = np.sqrt(squares / max(len(rows), 1))
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _blocks(x: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows, a part at a time: a table may be larger than the memory."""
    return (x[rows[at : at + _BLOCK]] for at in range(0, len(rows), _BLOCK))


def whitening(x: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "dim dim"]:
    """A matrix after which no two dimensions of centred `x` correlate; each has variance 1.

    Directions that carry less than 1e-4 of the largest variance are not raised to it.
    """
    covariance = x.astype(np.float64).T @ x / max(len(x) - 1, 1)
    variance, axes = np.linalg.eigh(covariance)
    floor = max(_NOISE * variance[-1], 1e-12)
    return np.asarray(axes / np.sqrt(np.maximum(variance, floor)), np.float32)


def fit_transform(
    x: Float[np.ndarray, "count dim"], rows: Int[np.ndarray, "n"], transform: str
) -> tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, "*dim dim"]]:
    """The affine map that a config's `tables.transform` asks for.

    Args:
      x: stored embeddings.
      rows: the nodes that training may see.
      transform: `none`; `standardise`, each dimension to variance 1; `whiten`, standardised and
        decorrelated: encoders of proteins spend most of their variance on few directions.

    Returns:
      `mean` and `matrix` of `Table`.

    Raises:
      InputError: an unknown transform.
    """
    if transform not in TRANSFORMS:
        raise unknown("tables.transform", transform, TRANSFORMS, "this version")
    if transform == "none":
        return np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    mean, scale = statistics(x, rows)
    if transform == "whiten":
        return mean, scale[:, None] * whitening(transformed(x[rows], mean, scale))
    return mean, scale


def transformed(
    stored: Float[np.ndarray, "n dim"],
    mean: Float32[np.ndarray, " dim"],
    matrix: Float32[np.ndarray, "*dim dim"],
) -> Float32[np.ndarray, "n dim"]:
    """`(stored - mean) @ matrix` in float32; `matrix` may be the diagonal `[dim]` of one."""
    centred = stored.astype(np.float32) - mean
    return centred * matrix if matrix.ndim == 1 else centred @ matrix


def load_tables(
    root: str | Path, manifest: Manifest, graph: Graph, transform: str
) -> dict[str, Table]:
    """Read and check every table of a dataset that has nodes, and fit its transform.

    Args:
      root: the dataset directory.
      manifest: its manifest.
      graph: its graph; the transform is fitted on its training nodes alone.
      transform: one of `TRANSFORMS`.

    Raises:
      InputError: a shard is damaged, or holds NaN or all-zero vectors; an unknown transform.
    """
    tables = {}
    for entry in (t for t in manifest.node_types if t.count):
        ids, stored = read_nodes(root, entry)
        mean, matrix = fit_transform(stored, graph.seen_nodes(entry.name), transform)
        tables[entry.name] = Table(ids, stored, mean, matrix)
    return tables


def read_names(root: str | Path, node_type: str) -> dict[str, str]:
    """Names of a type's nodes by id, from `nodes/<type>.tsv`; empty when there is none."""
    path = Path(root) / f"nodes/{file_name(node_type)}.tsv"
    if not path.is_file():
        return {}
    lines = path.read_text().splitlines()[1:]
    fields = (line.partition("\t") for line in lines)
    return {i: name for i, _, name in fields}


class Transform(NamedTuple):
    """The affine map before the model: `(x - mean) * matrix`, or `@ matrix` if it is whitened.

    Attributes:
      mean: `[dim]` float32.
      matrix: `[dim]` or `[dim, dim]` float32.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, table: Table) -> "Transform":
        """The transform of a table."""
        return cls(table.mean, table.matrix)
