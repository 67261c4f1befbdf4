"""Manifest of a dataset directory: its node types, splits and shards.

Layout of the directory:

    manifest.json   node types, relations, counts, split, sources, SHA-256 of every shard
    nodes/          for each node type, shards of ids and embeddings and a TSV file of names
    triples/        shards of the facts of each split
    heldout/        shards of the nodes that each split keeps out of training
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge_jax.data.files import write_json
from bridge_jax.data.tfrecord import DTYPES, Layout, Shard, node_layout
from bridge_jax.errors import InputError, unknown

FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class NodeTable:
    """Entry of the manifest for one node type and its frozen embeddings.

    A node type without embeddings has `dim` 0, `count` 0 and no shards; its entry only keeps the
    type's id.

    Attributes:
      name: Node type.
      dim: Dimension of the embeddings.
      dtype: Name of their dtype in `DTYPES`.
      count: Number of nodes.
      id_bytes: Number of bytes of the longest id.
      shards: Shards in order.
      encoder: Name and version of the model that made the embeddings.
      pooling: How it pools the vectors of tokens into one.
      source: Where the texts, SMILES or sequences come from.
      licence: Licence of the embeddings.
      failed: Nodes that the encoder could not encode, with `id` and `reason`.
    """

    name: str
    dim: int
    dtype: str
    count: int
    id_bytes: int
    shards: tuple[Shard, ...]
    encoder: str = "unknown"
    pooling: str = "unknown"
    source: str = ""
    licence: str = ""
    failed: tuple[dict[str, str], ...] = ()

    @property
    def layout(self) -> Layout:
        """Layout of the records in the shards."""
        return node_layout(self.id_bytes, self.dim, self.dtype)


@dataclass(frozen=True)
class SplitFile:
    """Entry of the manifest for the facts, or the held-out nodes, of one split.

    Attributes:
      count: Number of facts or nodes.
      shards: Shards in order.
    """

    count: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Manifest:
    """Contents of a dataset directory.

    Attributes:
      name: Name of the dataset.
      node_types: Node types; global node ids count through them in this order.
      relations: Names of the relations; a relation id is an index into them.
      triple_types: Head, relation and tail of each triple type, with its number of facts by split.
      triples: Facts by split.
      heldout: Held-out nodes by split.
      split: Split rule, its options and the leakage of each split.
      counts: Numbers of source rows, by what became of them.
      sources: Part of the data, source and licence of each source.
      format_version: Version of the format.
    """

    name: str
    node_types: tuple[NodeTable, ...]
    relations: tuple[str, ...]
    triple_types: tuple[dict[str, Any], ...]
    triples: dict[str, SplitFile]
    heldout: dict[str, SplitFile]
    split: dict[str, Any]
    counts: dict[str, int]
    sources: tuple[dict[str, str], ...] = ()
    format_version: int = FORMAT_VERSION

    def hash(self) -> str:
        """Returns the SHA-256 of the manifest, which covers every shard of the dataset."""
        return sha256_of_json(asdict(self))

    def files(self) -> set[str]:
        """Returns the paths of all shards, relative to the dataset directory."""
        split_files = (*self.triples.values(), *self.heldout.values())
        entries: tuple[NodeTable | SplitFile, ...] = (*self.node_types, *split_files)
        return {shard.file for entry in entries for shard in entry.shards}

    def table(self, name: str) -> NodeTable:
        """Returns the entry of a node type.

        Raises:
          InputError: The dataset has no such node type.
        """
        for table in self.node_types:
            if table.name == name:
                return table
        raise unknown("node type", name, [t.name for t in self.node_types], "this dataset")


def file_name(node_type: str) -> str:
    """Returns a node type as a file name: `gene/protein` becomes `gene_protein`."""
    return node_type.replace("/", "_").replace(" ", "_")


def sha256_of_json(value: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of JSON values; the order of the keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _count(value: Any, limit: int = 1 << 40) -> int:
    """Checks a count from JSON; raises a `TypeError`."""
    if type(value) is not int or not 0 <= value <= limit:
        raise TypeError(f"{value!r} is not a whole number from 0 to {limit}")
    return value


def _shards(items: Any) -> tuple[Shard, ...]:
    return tuple(Shard(str(i["file"]), _count(i["records"]), str(i["sha256"])) for i in items)


def _split_files(items: Mapping[str, Any]) -> dict[str, SplitFile]:
    return {k: SplitFile(_count(v["count"]), _shards(v["shards"])) for k, v in items.items()}


def node_table_from_json(value: Mapping[str, Any]) -> NodeTable:
    """Builds a `NodeTable` from its JSON values.

    Raises:
      InputError: The dtype is unknown.
      KeyError: A field is missing.
      TypeError: A field is unknown or has the wrong type.
    """
    limits = {"dim": 1 << 20, "count": 1 << 40, "id_bytes": 1 << 16}
    fields = dict(value) | {name: _count(value[name], limit) for name, limit in limits.items()}
    fields |= {"shards": _shards(value["shards"]), "failed": tuple(value.get("failed", ()))}
    table = NodeTable(**fields)
    if table.dtype not in DTYPES:
        raise unknown("dtype", str(table.dtype), DTYPES, "this format")
    return table


def read_manifest(root: str | Path) -> Manifest:
    """Reads and checks `manifest.json`.

    Args:
      root: Dataset directory.

    Returns:
      Manifest of the dataset.

    Raises:
      InputError: The manifest is missing, was changed after it was written, or cannot be read.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        why = "no manifest.json" if Path(root).is_dir() else "there is no such folder"
        raise InputError(
            f"{root}: not a dataset directory ({why}); make one with python -m tools.import_graph"
        )
    try:
        value = json.loads(path.read_bytes())
        checksum, version = value.pop("sha256", None), value["format_version"]
        if version != FORMAT_VERSION:
            raise InputError(f"{path}: format version {version}; this code reads {FORMAT_VERSION}")
        if checksum != sha256_of_json(value):
            raise InputError(
                f"{path}: the manifest was changed after it was written (its sha256 differs); "
                "restore it or write the dataset again"
            )
        return Manifest(
            name=value["name"],
            node_types=tuple(node_table_from_json(t) for t in value["node_types"]),
            relations=tuple(value["relations"]),
            triple_types=tuple(value["triple_types"]),
            triples=_split_files(value["triples"]),
            heldout=_split_files(value["heldout"]),
            split=dict(value["split"]),
            counts=dict(value["counts"]),
            sources=tuple(value.get("sources", ())),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        reason = f"field {e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{path}: the manifest cannot be read: {reason}") from e


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically; its presence means that the dataset is complete."""
    value = asdict(manifest)
    write_json(root / "manifest.json", value | {"sha256": sha256_of_json(value)})


def shard_file(folder: str, name: str, index: int, num_shards: int) -> str:
    """Returns the path of a shard, e.g. `nodes/gene_protein-00000-of-00008.tfrecord`."""
    return f"{folder}/{file_name(name)}-{index:05d}-of-{num_shards:05d}.tfrecord"
