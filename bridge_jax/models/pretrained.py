"""A trained bridge as files that anything can read: safetensors, config and vocabulary.

model.safetensors   params/… (the trained numbers) and transforms/<type>/{mean, matrix}
config.json         the run's config, without the place of its dataset, and which dataset that was
vocabulary.json     node types (with dimensions and encoders), relations, triple types; in id order
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.dataset import file_name
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError

FORMAT_VERSION = 1
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """What an exported folder holds.

    Attributes:
      config: of the run; `dataset` is empty.
      params: the trained numbers, as the run has them.
      transforms: (mean, matrix) by node type.
      node_types: name, dimension, encoder and pooling of each, in id order.
      relations: names, in id order.
      triple_types: in the order of the learned priors.
      step: of the checkpoint.
      manifest: sha256 of the dataset's manifest.
      dataset: its name.
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


def is_exported(folder: Path) -> bool:
    """Whether a folder is an exported bridge, rather than a run."""
    return (folder / WEIGHTS).is_file()


def write_exported(folder: Path, exported: Exported) -> None:
    """Write the three files, the weights last.

    Raises:
      InputError: safetensors is missing.
    """
    safetensors = _safetensors()
    config = configs.to_json(exported.config) | {"dataset": ""}
    about = {
        "library_name": "bridge_jax",
        "format_version": FORMAT_VERSION,
        "step": exported.step,
        "dataset": {"name": exported.dataset, "manifest_sha256": exported.manifest},
        "config": config,
    }
    vocabulary = {
        "node_types": list(exported.node_types),
        "relations": list(exported.relations),
        "triple_types": [list(triple_type) for triple_type in exported.triple_types],
    }
    arrays = _flat("params", exported.params)
    for name, (mean, matrix) in exported.transforms.items():
        arrays[f"transforms/{file_name(name)}/mean"] = np.asarray(mean)
        arrays[f"transforms/{file_name(name)}/matrix"] = np.asarray(matrix)
    (folder / WEIGHTS).unlink(missing_ok=True)  # it vouches for the rest
    write_json(folder / CONFIG, about)
    write_json(folder / VOCABULARY, vocabulary)
    with atomic_file(folder / WEIGHTS) as temporary:
        whole = {k: np.asarray(v, order="C") for k, v in sorted(arrays.items())}
        temporary.write_bytes(safetensors.save(whole, {"format": "np"}))


def read_exported(folder: Path) -> Exported:
    """Read what `write_exported` wrote.

    Raises:
      InputError: a file is missing, damaged, or of another version.
    """
    safetensors = _safetensors()
    from safetensors import SafetensorError

    try:
        about = json.loads((folder / CONFIG).read_bytes())
        vocabulary = json.loads((folder / VOCABULARY).read_bytes())
        if about["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{folder / CONFIG}: format version {about['format_version']}; this code reads "
                f"{FORMAT_VERSION}"
            )
        arrays: Arrays = safetensors.load_file(folder / WEIGHTS)
        types = tuple(vocabulary["node_types"])
        return Exported(
            config=configs.from_json(about["config"]),
            params=_nested(arrays)["params"],
            transforms={t["name"]: _transform(arrays, t["name"]) for t in types if t["dim"]},
            node_types=types,
            relations=tuple(vocabulary["relations"]),
            triple_types=tuple(
                TripleType(*triple_type) for triple_type in vocabulary["triple_types"]
            ),
            step=int(about["step"]),
            manifest=str(about["dataset"]["manifest_sha256"]),
            dataset=str(about["dataset"]["name"]),
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else " ".join(str(e).split())
        raise InputError(f"{folder}: not a whole exported bridge: {reason}; export it again") from e


def _transform(arrays: Arrays, node_type: str) -> tuple[np.ndarray, np.ndarray]:
    at = f"transforms/{file_name(node_type)}"
    return arrays[f"{at}/mean"], arrays[f"{at}/matrix"]


def _flat(prefix: str, tree: Any) -> Arrays:
    """`{"a": {"b": x}}` as `{"prefix/a/b": x}`."""
    if not isinstance(tree, Mapping):
        return {prefix: np.asarray(tree)}
    return {k: v for name, part in tree.items() for k, v in _flat(f"{prefix}/{name}", part).items()}


def _nested(arrays: Arrays) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, name = path.split("/")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = array
    return tree


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as e:
        raise InputError(
            "exported bridges need safetensors; install it with pip install 'bridge_jax[hub]'"
        ) from e
    return safetensors.numpy
