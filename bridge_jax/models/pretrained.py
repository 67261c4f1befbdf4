"""Files of a pretrained bridge, readable without this package: safetensors and JSON.

model.safetensors   params/… (trained parameters) and transforms/<type>/{mean, matrix}
config.json         config of the run without its dataset path; name and hash of that dataset;
                    SHA-256 of the weights, of the vocabulary and of the rest of this file
fusion.json         weights of the fusion with nearest neighbours; only used with the dataset
dataset/            the training dataset, if it was exported too
vocabulary.json     node types (with dimensions and encoders), relations, triple types; in id order
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.encoder_spec import SPEC_KEY, spec_from_json
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import TripleType
from bridge_jax.data.manifest import file_name, sha256_of_json
from bridge_jax.errors import InputError

FORMAT_VERSION = 2
WITHOUT_CHECKSUMS = 1  # format version before 0.2
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"
DATASET = "dataset"  # folder of the training dataset, if it was exported too


@dataclass(frozen=True)
class PretrainedBridge:
    """Contents of a pretrained bridge's folder.

    Attributes:
      config: Config of the training run; `dataset` is empty.
      params: Trained parameters, nested as in the run.
      transforms: Mean `[dim]` and matrix of the embedding transform, by node type; the matrix is
        `[dim]` where it is diagonal, otherwise `[dim, dim]`.
      node_types: Name, dimension, encoder and pooling of each node type, and the specification
        of its encoder if it is recorded, in id order.
      relations: Relation names, in id order.
      triple_types: Triple types, in the order of the learned priors.
      step: Training step of the checkpoint.
      manifest: SHA-256 of the training dataset's manifest.
      dataset: Name of the training dataset.
    """

    config: ConfigDict
    params: Mapping[str, Any]
    transforms: Mapping[str, tuple[np.ndarray, np.ndarray]]
    node_types: tuple[dict[str, Any], ...]
    relations: tuple[str, ...]
    triple_types: tuple[TripleType, ...]
    step: int
    manifest: str
    dataset: str


def is_pretrained(folder: Path) -> bool:
    """Returns whether a folder holds a pretrained bridge rather than a training run."""
    return (folder / WEIGHTS).is_file()


def save_pretrained(folder: Path, bridge: PretrainedBridge) -> None:
    """Writes the three files of a pretrained bridge, the weights last.

    Args:
      folder: Folder to write; created if it does not exist.
      bridge: Contents to write.

    Raises:
      InputError: The package safetensors is not installed.
    """
    safetensors = _safetensors()
    config: dict[str, Any] = {
        "library_name": "bridge_jax",
        "format_version": FORMAT_VERSION,
        "step": bridge.step,
        "dataset": {"name": bridge.dataset, "manifest_sha256": bridge.manifest},
        "config": configs.to_json(bridge.config) | {"dataset": ""},
    }
    vocabulary = {
        "node_types": list(bridge.node_types),
        "relations": list(bridge.relations),
        "triple_types": [list(triple_type) for triple_type in bridge.triple_types],
    }
    transforms = {
        file_name(node_type): {"mean": mean, "matrix": matrix}
        for node_type, (mean, matrix) in bridge.transforms.items()
    }
    flat = flatten_dict({"params": bridge.params, "transforms": transforms}, sep="/")
    # safetensors stores the memory of an array as it lies, so it must be in C order.
    arrays = {name: np.asarray(array, order="C") for name, array in sorted(flat.items())}
    weights = safetensors.save(arrays, {"format": "np"})
    config["sha256"] = {
        WEIGHTS: hashlib.sha256(weights).hexdigest(),
        VOCABULARY: sha256_of_json(vocabulary),
        CONFIG: sha256_of_json(config),
    }
    # The weights mark a complete folder: gone before the first file changes, back after the last.
    (folder / WEIGHTS).unlink(missing_ok=True)
    write_json(folder / CONFIG, config)
    write_json(folder / VOCABULARY, vocabulary)
    with atomic_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(weights)


def load_pretrained(folder: Path) -> PretrainedBridge:
    """Reads a folder written by `save_pretrained`.

    Args:
      folder: Folder of a pretrained bridge.

    Returns:
      The contents of the folder.

    Raises:
      InputError: A file is missing, damaged or of another format version, or the package
        safetensors is not installed.
    """
    safetensors = _safetensors()
    from safetensors import SafetensorError

    try:
        config = json.loads((folder / CONFIG).read_bytes())
        vocabulary = json.loads((folder / VOCABULARY).read_bytes())
        weights = (folder / WEIGHTS).read_bytes()
        version = config["format_version"]
        if version == FORMAT_VERSION:
            _check_sums(folder, weights, config, vocabulary)
        elif version == WITHOUT_CHECKSUMS:
            print(
                f"{folder}: exported by a version before 0.2, without checksums; damage would not "
                "be noticed",
                file=sys.stderr,
            )
        else:
            raise InputError(
                f"{folder / CONFIG}: format version {version!r}; this code reads "
                f"{WITHOUT_CHECKSUMS} and {FORMAT_VERSION}"
            )
        arrays = unflatten_dict(safetensors.load(weights), sep="/")
        node_types = tuple(vocabulary["node_types"])
        for node_type in node_types:
            spec_from_json(node_type.get(SPEC_KEY))  # raises if it cannot be read
        embedded = [t["name"] for t in node_types if t["dim"]]
        return PretrainedBridge(
            config=configs.from_json(config["config"]),
            params=arrays["params"],
            transforms={name: _transform(arrays, name) for name in embedded},
            node_types=node_types,
            relations=tuple(vocabulary["relations"]),
            triple_types=tuple(TripleType(*names) for names in vocabulary["triple_types"]),
            step=int(config["step"]),
            manifest=str(config["dataset"]["manifest_sha256"]),
            dataset=str(config["dataset"]["name"]),
        )
    except InputError:
        raise
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        SafetensorError,
    ) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else " ".join(str(e).split())
        raise InputError(
            f"{folder}: not a complete exported bridge: {reason}; export it again"
        ) from e


def _check_sums(
    folder: Path, weights: bytes, config: Mapping[str, Any], vocabulary: Mapping[str, Any]
) -> None:
    """Raises an `InputError` that names the first file that is not what was exported."""
    stored = config["sha256"]
    current = {
        CONFIG: sha256_of_json({k: v for k, v in config.items() if k != "sha256"}),
        VOCABULARY: sha256_of_json(vocabulary),
        WEIGHTS: hashlib.sha256(weights).hexdigest(),
    }
    for name, digest in current.items():
        if stored[name] != digest:
            raise InputError(
                f"{folder / name}: damaged: it changed since it was exported; export it again"
            )


def _transform(arrays: Mapping[str, Any], node_type: str) -> tuple[np.ndarray, np.ndarray]:
    transform = arrays["transforms"][file_name(node_type)]
    return transform["mean"], transform["matrix"]


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as e:
        raise InputError(
            "exported bridges need safetensors; install it with pip install 'bridge_jax[hub]'"
        ) from e
    return safetensors.numpy
