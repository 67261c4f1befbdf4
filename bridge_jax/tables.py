"""Embedding tables: shards to arrays, standardised, placed on the device."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from bridge_jax.dataset import Manifest, file_name, read_nodes
from bridge_jax.errors import InputError
from bridge_jax.graph import Graph


@dataclass(frozen=True)
class Table:
    """One node type's frozen embeddings.

    Attributes:
      ids: one id a row.
      x: `[count, dim]`, what the model reads (standardised, if the config says so).
      mean: `[dim]` subtracted from the stored embedding.
      scale: `[dim]` the stored embedding was then multiplied by.
    """

    ids: list[str]
    x: Float32[np.ndarray, "count dim"]
    mean: Float32[np.ndarray, " dim"]
    scale: Float32[np.ndarray, " dim"]

    def prepare(self, x: Float[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
        """Bring new embeddings of the same encoder into the form of `x`.

        Raises:
          InputError: another dimension.
        """
        if x.shape[1] != len(self.mean):
            raise InputError(
                f"embeddings have dimension {x.shape[1]}; this table has {len(self.mean)}"
            )
        return (x.astype(np.float32) - self.mean) * self.scale


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
    seen = x[rows].astype(np.float64)
    deviation = seen.std(axis=0)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
    return seen.mean(axis=0).astype(np.float32), scale.astype(np.float32)


def load_tables(
    root: str | Path, manifest: Manifest, graph: Graph, standardise: bool
) -> dict[str, Table]:
    """Read, check and standardise every table of a dataset.

    Args:
      root: the dataset directory.
      manifest: its manifest.
      graph: its graph; the statistics are taken over its training nodes alone.
      standardise: bring each dimension to mean 0 and variance 1.

    Raises:
      InputError: a shard is damaged, or holds NaN or all-zero vectors.
    """
    tables = {}
    for entry in manifest.node_types:
        ids, stored = read_nodes(root, entry)
        x = stored.astype(np.float32)
        mean, scale = np.zeros(entry.dim, np.float32), np.ones(entry.dim, np.float32)
        if standardise:
            mean, scale = statistics(x, graph.train_nodes(entry.name))
        tables[entry.name] = Table(ids, (x - mean) * scale, mean, scale)
    return tables


def on_device(tables: Mapping[str, Table], dtype: str = "float32") -> dict[str, jax.Array]:
    """Put the tables on the device, `{type: [count, dim]}`."""
    return {name: jnp.asarray(t.x, dtype) for name, t in tables.items()}


def read_names(root: str | Path, node_type: str) -> dict[str, str]:
    """Names of a type's nodes by id, from `nodes/<type>.tsv`; empty when there is none."""
    path = Path(root) / f"nodes/{file_name(node_type)}.tsv"
    if not path.is_file():
        return {}
    lines = path.read_text().splitlines()[1:]
    fields = (line.partition("\t") for line in lines)
    return {i: name for i, _, name in fields}
