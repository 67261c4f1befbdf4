"""JSON parts of a checkpoint, read without Orbax: also while training adds and removes others.

    <workdir>/checkpoints/<step>/data/metadata       seed, step, manifest hash, validations
    <workdir>/checkpoints/<step>/config/metadata     config of the run
    <workdir>/checkpoints/<step>/metrics/metrics     validation metrics, if it was validated
    <workdir>/checkpoints/<step>/digests/metadata    digests of the above and of all arrays

Checkpoints of versions before 0.2 have no digests: damage to them is not noticed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_jax.data.manifest import sha256_of_json
from bridge_jax.errors import InputError

CHECKPOINTS = "checkpoints"
BEST_METRIC = "mrr"
_FILES = {"data": "metadata", "config": "metadata", "metrics": "metrics", "digests": "metadata"}


class DamagedCheckpointError(InputError):
    """A checkpoint cannot be read, or is not what was saved.

    Attributes:
      path: Folder of the checkpoint.
      reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        """Composes the message.

        Args:
          path: Folder of the checkpoint.
          reason: What is wrong with it.
          remedy: What to do about it.
        """
        super().__init__(f"{path}: the checkpoint is damaged: {reason}{remedy and f'; {remedy}'}")
        self.path, self.reason = path, reason


class IncompleteCheckpointError(DamagedCheckpointError):
    """A file of a checkpoint is missing."""


@dataclass(frozen=True)
class CheckpointRecord:
    """JSON parts of a checkpoint.

    Attributes:
      step: Number of finished steps.
      data: Seed, step, manifest hash, and the validations so far.
      config: Config as JSON values.
      metrics: Validation metrics; None if it was saved without a validation.
      arrays: Digest of each array, by its path; None for a checkpoint of an earlier version.
      nonfinite: Paths of the arrays that held NaN or infinity when they were saved.
    """

    step: int
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Mapping[str, float] | None
    arrays: Mapping[str, str] | None
    nonfinite: tuple[str, ...] = ()


def list_steps(folder: Path) -> list[int]:
    """Returns the complete steps in a folder of checkpoints, ascending."""
    steps: list[int] = []
    # A listing may miss the new checkpoint, if it began before its rename, and the old one, if it
    # reached its place after its removal: nothing at all is worth a second look.
    for _ in range(3):
        if not steps and folder.is_dir():
            steps = [int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()]
    return sorted(steps)


def digest_item(
    arrays: Mapping[str, str],
    data: Mapping[str, Any],
    config: Mapping[str, Any],
    metrics: Mapping[str, float] | None,
    nonfinite: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the item `digests` of a checkpoint, with a digest of its own."""
    parts = {"data": data, "config": config, "metrics": metrics}
    json_digests = {name: sha256_of_json(v) for name, v in parts.items() if v is not None}
    item = {"arrays": dict(arrays), "json": json_digests, "nonfinite": list(nonfinite)}
    return {**item, "sha256": sha256_of_json(item)}


def read_record(folder: Path, step: int) -> CheckpointRecord:
    """Reads the JSON parts of a checkpoint and compares them with their digests.

    Args:
      folder: Folder of the checkpoints.
      step: Step of a checkpoint.

    Raises:
      DamagedCheckpointError: A part is missing, or is not what was saved.
    """
    path = folder / str(step)
    parts = {name: _read_part(path, name) for name in _FILES}
    digests = parts.pop("digests")
    data, config = parts["data"], parts["config"]
    if data is None or config is None:
        raise IncompleteCheckpointError(path, "data/metadata or config/metadata is missing")
    arrays, nonfinite = None, list[str]()
    if digests is not None:
        stored = {k: v for k, v in digests.items() if k != "sha256"}
        if digests.get("sha256") != sha256_of_json(stored):
            raise DamagedCheckpointError(path, "digests/metadata changed since it was saved")
        present = {name: sha256_of_json(v) for name, v in parts.items() if v is not None}
        for name in sorted(stored["json"].keys() | present.keys()):
            if stored["json"].get(name) != present.get(name):
                file = f"{name}/{_FILES[name]}"
                raise DamagedCheckpointError(path, f"{file} changed since it was saved")
        arrays, nonfinite = stored["arrays"], stored["nonfinite"]
    if not isinstance(data.get("manifest"), str):
        raise DamagedCheckpointError(path, "data/metadata does not name a dataset")
    if (metrics := parts["metrics"]) and not isinstance(metrics.get(BEST_METRIC), int | float):
        raise DamagedCheckpointError(path, f"metrics/metrics has no {BEST_METRIC}")
    return CheckpointRecord(step, data, config, metrics, arrays, tuple(nonfinite))


def best_step(records: list[CheckpointRecord]) -> int | None:
    """Returns the step with the best validation, else the latest; None without records."""
    validated = [(r.metrics[BEST_METRIC], r.step) for r in records if r.metrics]
    return max(validated)[1] if validated else max((r.step for r in records), default=None)


def _read_part(path: Path, name: str) -> dict[str, Any] | None:
    """Returns the JSON object of one part; None if there is no such part."""
    file = path / name / _FILES[name]
    if not file.parent.is_dir():
        return None
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError as e:
        raise IncompleteCheckpointError(path, f"{name}/{file.name} is missing") from e
    except (OSError, ValueError, RecursionError) as e:
        reason = "cannot be read" if isinstance(e, OSError) else "is not valid JSON"
        raise DamagedCheckpointError(path, f"{name}/{file.name} {reason}") from e
    if not isinstance(value, dict):
        raise DamagedCheckpointError(path, f"{name}/{file.name} is not a JSON object")
    return value
