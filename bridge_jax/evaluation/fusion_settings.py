"""What a fusion consists of, as it is stored with a run: `<workdir>/fusion.json`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge_jax.data.files import write_json
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.calibration import ConfidenceBin
from bridge_jax.models.knn import Setting

FILE = "fusion.json"


@dataclass(frozen=True)
class FusionSettings:
    """Weights and settings of a fusion, selected on the validation split.

    Attributes:
      step: Step of the checkpoint that they were selected for.
      manifest_sha256: Hash of the dataset's manifest.
      spaces: Names of the spaces.
      weights: Weight of each space, by triple type.
      settings: Settings of the neighbours, by space and triple type.
      reverse_weights: Weights of the reverse query; empty if the bridge is asked one way only.
      confidence: Confidence of the answers, by triple type.
    """

    step: int
    manifest_sha256: str
    spaces: tuple[str, ...]
    weights: Mapping[TripleType, tuple[float, ...]]
    settings: Mapping[str, Mapping[TripleType, Setting]]
    reverse_weights: Mapping[TripleType, float] = field(default_factory=dict)
    confidence: Mapping[TripleType, tuple[ConfidenceBin, ...]] = field(default_factory=dict)

    def fits(self, step: int, manifest_sha256: str, spaces: tuple[str, ...], both: bool) -> bool:
        """Returns whether these are the settings of a checkpoint under a config.

        Args:
          step: Step of the checkpoint.
          manifest_sha256: Hash of the dataset's manifest.
          spaces: `evaluate.knn_spaces` of the config.
          both: `evaluate.bidirectional` of the config.
        """
        return (self.step, self.manifest_sha256, self.spaces, bool(self.reverse_weights)) == (
            step, manifest_sha256, spaces, both
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON value of the file, with a digest of the rest."""
        triple_types = []
        for triple_type, weights in self.weights.items():
            entry: dict[str, Any] = {
                **triple_type._asdict(),
                "weights": dict(zip(self.spaces, weights, strict=True)),
                "neighbours": {s: self.settings[s][triple_type]._asdict() for s in self.spaces},
                "confidence": [b._asdict() for b in self.confidence.get(triple_type, ())],
            }
            if self.reverse_weights:
                entry["reverse_weight"] = self.reverse_weights[triple_type]
            triple_types.append(entry)
        value = {
            "step": self.step,
            "manifest_sha256": self.manifest_sha256,
            "spaces": list(self.spaces),
            "triple_types": triple_types,
        }
        return {**value, "sha256": _digest(value)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FusionSettings":
        """Returns the settings of a JSON value.

        Raises:
          ValueError: The digest is another one.
          KeyError, TypeError: A field is missing or has another type.
        """
        content = {k: v for k, v in value.items() if k != "sha256"}
        if value["sha256"] != _digest(content):
            raise ValueError("it changed since it was written")
        spaces = tuple(value["spaces"])
        weights, reverse, confidence = {}, {}, {}
        settings: dict[str, dict[TripleType, Setting]] = {s: {} for s in spaces}
        for entry in value["triple_types"]:
            triple_type = TripleType(entry["head"], entry["relation"], entry["tail"])
            weights[triple_type] = tuple(float(entry["weights"][s]) for s in spaces)
            for space in spaces:
                settings[space][triple_type] = Setting(**entry["neighbours"][space])
            if "reverse_weight" in entry:
                reverse[triple_type] = float(entry["reverse_weight"])
            confidence[triple_type] = tuple(ConfidenceBin(**b) for b in entry["confidence"])
        return cls(
            int(value["step"]), str(value["manifest_sha256"]), spaces, weights, settings, reverse,
            confidence,
        )  # fmt: skip


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_settings(folder: Path, settings: FusionSettings) -> None:
    """Writes `fusion.json` into the folder of a run or of an exported bridge."""
    write_json(folder / FILE, settings.to_json())


def read_settings(folder: Path) -> FusionSettings | None:
    """Reads `fusion.json` of a run or of an exported bridge; None if there is none.

    Raises:
      InputError: It is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return FusionSettings.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        why = str(e) if "since it was written" in str(e) else type(e).__name__
        raise InputError(
            f"{path}: is damaged ({why}); delete it, then run bridge_jax.evaluate, which writes it "
            "anew"
        ) from e
