"""Manifest of a dataset directory: its node types, splits and shards.

Layout of the directory:

    manifest.json   node types, relations, counts, split, sources, SHA-256 of every shard
    nodes/          for each node type, shards of ids and embeddings and a TSV file of names, and
                    for some a gzipped TSV file of synonyms
    triples/        shards of the facts of each split
    heldout/        shards of the nodes that each split keeps out of training
    similarity/     for some node types, shards of pairs of similar nodes
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge_jax.data.encoder_spec import SPEC_KEY, EncoderSpec, spec_from_json
from bridge_jax.data.files import check_relative, path_inside, write_json
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
      encoder_spec: How the embeddings can be made again; None if that is unknown.
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
    encoder_spec: EncoderSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON values; an unknown specification is left out."""
        value = asdict(self)
        del value[SPEC_KEY]
        return value | ({SPEC_KEY: self.encoder_spec.to_json()} if self.encoder_spec else {})

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
class SimilarityTable:
    """Entry of the manifest for the similar nodes of one node type.

    Attributes:
      count: Number of pairs; (a, b) and (b, a) are two.
      shards: Shards in order.
      score: What the score is, e.g. `bits`; a larger one is more similar.
      source: File that the pairs come from.
    """

    count: int
    shards: tuple[Shard, ...]
    score: str = ""
    source: str = ""


@dataclass(frozen=True)
class SynonymFile:
    """Entry of the manifest for the synonyms of one node type.

    Attributes:
      file: Path relative to the dataset directory.
      count: Number of nodes with a synonym.
      sha256: SHA-256 of the file.
    """

    file: str
    count: int
    sha256: str


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
      similarity: Pairs of similar nodes by node type; a type without an entry has none.
      synonyms: Synonyms by node type; a type without an entry has none.
      names: SHA-256 of the table of names by node type; older datasets have none.
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
    similarity: dict[str, SimilarityTable] = field(default_factory=dict)
    synonyms: dict[str, SynonymFile] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON values; an optional field without a value is left out."""
        value = asdict(self) | {"node_types": [t.to_json() for t in self.node_types]}
        return {k: v for k, v in value.items() if v or k not in ("similarity", "synonyms", "names")}

    def hash(self) -> str:
        """Returns the SHA-256 of all that a model is trained on: it covers every shard.

        Encoder specifications, names and synonyms do not count, so that a run fits its dataset even
        after they have been added.
        """
        tables = tuple(replace(t, encoder_spec=None) for t in self.node_types)
        return sha256_of_json(replace(self, node_types=tables, synonyms={}, names={}).to_json())

    def files(self) -> set[str]:
        """Returns the paths of all shards and synonyms, relative to the dataset directory."""
        return set(self._list_files())

    def _list_files(self) -> list[str]:
        """Returns the paths of all entries in order; one that is listed twice occurs twice."""
        files = [shard.file for shard in self.shards()]
        return [*files, *(entry.file for entry in self.synonyms.values())]

    def shards(self) -> list[Shard]:
        """Returns all shards."""
        entries: tuple[NodeTable | SplitFile | SimilarityTable, ...] = (
            *self.node_types,
            *self.triples.values(),
            *self.heldout.values(),
            *self.similarity.values(),
        )
        return [shard for entry in entries for shard in entry.shards]

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
    """Builds shards from JSON values; raises an `InputError` for a path that is not relative."""
    shards = tuple(Shard(str(i["file"]), _count(i["records"]), str(i["sha256"])) for i in items)
    for shard in shards:
        check_relative(shard.file)
    _check_unique("shard", [shard.file for shard in shards])
    return shards


def _check_unique(noun: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        value, count = Counter(values).most_common(1)[0]
        raise InputError(f"{noun} {value[:200]!r} is listed {count} times; make the folder again")


def _split_files(items: Mapping[str, Any]) -> dict[str, SplitFile]:
    return {k: SplitFile(_count(v["count"]), _shards(v["shards"])) for k, v in items.items()}


def _similarity_tables(items: Mapping[str, Any]) -> dict[str, SimilarityTable]:
    return {
        name: SimilarityTable(
            _count(v["count"]), _shards(v["shards"]), str(v["score"]), str(v["source"])
        )
        for name, v in items.items()
    }


def _synonym_files(items: Mapping[str, Any]) -> dict[str, SynonymFile]:
    files = {
        name: SynonymFile(str(v["file"]), _count(v["count"]), str(v["sha256"]))
        for name, v in items.items()
    }
    for entry in files.values():
        check_relative(entry.file)
    return files


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
    fields[SPEC_KEY] = spec_from_json(value.get(SPEC_KEY))
    table = NodeTable(**fields)
    if table.dtype not in DTYPES:
        raise unknown("dtype", str(table.dtype), DTYPES, "this format")
    if not isinstance(table.name, str) or not table.name or not table.name.isprintable():
        raise TypeError(f"{table.name!r} is not the name of a node type")
    num_records = sum(shard.records for shard in table.shards)
    if table.count != num_records:
        raise TypeError(f"{table.name} counts {table.count} nodes, its shards {num_records}")
    return table


def read_manifest(root: str | Path) -> Manifest:
    """Reads and checks `manifest.json`.

    Args:
      root: Dataset directory.

    Returns:
      Manifest of the dataset.

    Raises:
      InputError: The manifest is missing, was changed after it was written, or cannot be read; or a
        path in it leaves the directory, or is listed twice.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        why = "no manifest.json" if Path(root).is_dir() else "there is no such folder"
        if (Path(root) / ".swap/manifest.json").is_file():
            why = "its replacement was interrupted; run the command that wrote it again"
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
        manifest = Manifest(
            name=value["name"],
            node_types=tuple(node_table_from_json(t) for t in value["node_types"]),
            relations=tuple(value["relations"]),
            triple_types=tuple(value["triple_types"]),
            triples=_split_files(value["triples"]),
            heldout=_split_files(value["heldout"]),
            split=dict(value["split"]),
            counts=dict(value["counts"]),
            sources=tuple(value.get("sources", ())),
            similarity=_similarity_tables(value.get("similarity", {})),
            synonyms=_synonym_files(value.get("synonyms", {})),
            names={str(k): str(v) for k, v in value.get("names", {}).items()},
        )
        for name in (*manifest.similarity, *manifest.synonyms, *manifest.names):
            manifest.table(name)
        _check_unique("node type", [t.name for t in manifest.node_types])
        _check_unique("relation", manifest.relations)
        files = manifest._list_files()
        _check_unique("shard", files)
        for file in files:
            path_inside(Path(root), file)
        return manifest
    except InputError as e:
        raise e if str(e).startswith(str(root)) else InputError(f"{path}: {e}") from e
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        reason = f"field {e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{path}: the manifest cannot be read: {reason}") from e


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically; its presence means that the dataset is complete."""
    value = manifest.to_json()
    write_json(root / "manifest.json", value | {"sha256": sha256_of_json(value)})


def shard_file(folder: str, name: str, index: int, num_shards: int) -> str:
    """Returns the path of a shard, e.g. `nodes/gene_protein-00000-of-00008.tfrecord`."""
    return f"{folder}/{file_name(name)}-{index:05d}-of-{num_shards:05d}.tfrecord"
