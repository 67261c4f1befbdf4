"""Metadata with which TensorFlow Datasets loads a dataset directory without conversion.

    tfds.builder_from_directory("openbiokg/tfds/nodes/gene_protein").as_dataset(split="nodes")
    tfds.builder_from_directory("openbiokg/tfds/triples").as_dataset(split="train")

A TFDS builder has one feature specification. Embedding dimensions differ between node types, so
each type is a builder of its own. The shards stay where they are: the file template of a builder
points to them. `tfds.ReadConfig(interleave_cycle_length=1)` keeps nodes in the order of the shards.
Ids are padded with NUL bytes to one width, and the last block of a split's triples with -1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_jax.data.files import write_json
from bridge_jax.data.manifest import Manifest, file_name
from bridge_jax.data.tfrecord import TRIPLES_PER_RECORD, Layout, Shard, triple_layout

_FEATURES = "tensorflow_datasets.core.features"


def write_tfds(root: Path, manifest: Manifest) -> None:
    """Writes `features.json` and `dataset_info.json` of each builder.

    Args:
      root: Dataset directory with its shards.
      manifest: Its manifest.
    """
    for file, value in tfds_metadata(manifest).items():
        write_json(root / file, value)


def tfds_metadata(manifest: Manifest) -> dict[str, Any]:
    """Returns the content of each metadata file, by path relative to the dataset directory."""
    files: dict[str, Any] = {}
    for table in (t for t in manifest.node_types if t.count):
        name = file_name(table.name)
        embedding = _tensor([table.dim], table.dtype, "bytes")
        features = {"embedding": embedding, "id": _tensor([], "string", "none")}
        template = f"../../../nodes/{name}-{{SHARD_X_OF_Y}}.{{FILEFORMAT}}"
        split = _split("nodes", table.shards, table.layout, template)
        files |= _builder(f"tfds/nodes/{name}", manifest, features, [split])
    block = _tensor([TRIPLES_PER_RECORD], "int32", "bytes")
    features = {name: block for name, _ in triple_layout().features}
    template = "../../triples/{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"
    splits = [_split(s, f.shards, triple_layout(), template) for s, f in manifest.triples.items()]
    return files | _builder("tfds/triples", manifest, features, splits)


def _builder(
    folder: str, manifest: Manifest, features: Mapping[str, Any], splits: Sequence[Any]
) -> dict[str, Any]:
    info = {
        "name": folder.rpartition("/")[2],
        "version": f"{manifest.format_version}.0.0",
        "description": f"Part of the dataset {manifest.name}.",
        "fileFormat": "tfrecord",
        "splits": splits,
    }
    spec = {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    return {f"{folder}/dataset_info.json": info, f"{folder}/features.json": spec}


def _tensor(shape: Sequence[int], dtype: str, encoding: str) -> dict[str, Any]:
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding},
    }


def _split(name: str, shards: Sequence[Shard], layout: Layout, template: str) -> dict[str, Any]:
    return {
        "name": name,
        "shardLengths": [str(s.records) for s in shards],
        "numBytes": str(sum(s.records for s in shards) * layout.frame_bytes),
        "filepathTemplate": template,
    }
