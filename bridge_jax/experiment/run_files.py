"""Files of a run that are read and written without JAX: its config and its provenance.

<workdir>/config.json    config of the run
<workdir>/run.json       dataset, command, versions, machine; how far training has come
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError

CONFIG, PROVENANCE = "config.json", "run.json"


def read_config(workdir: Path) -> ConfigDict:
    """Reads the config of a run.

    Raises:
      InputError: It is damaged, or it has fields of another version.
    """
    path = workdir / CONFIG
    try:
        return configs.from_json(json.loads(path.read_bytes()))
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path}: is damaged ({type(e).__name__}); delete it and run the training command "
            "with the same config again, which writes it anew"
        ) from e


def read_provenance(workdir: Path) -> dict[str, Any]:
    """Reads `run.json`; empty if there is none.

    Raises:
      InputError: It is damaged.
    """
    path = workdir / PROVENANCE
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise TypeError(type(value).__name__)
        return value
    except (OSError, ValueError, TypeError, RecursionError) as e:
        raise InputError(
            f"{path}: is damaged ({type(e).__name__}); delete it and run the training command "
            "again, which writes it anew"
        ) from e


def record_progress(
    workdir: Path, step: int, num_steps: int, complete: bool = False, best: int | None = None
) -> None:
    """Writes into `run.json` how far a run has come.

    Args:
      workdir: Folder of the run.
      step: Number of finished steps.
      num_steps: Number of steps of a complete run.
      complete: Whether the run has ended: all steps are done, or patience ended it.
      best: Step of the best checkpoint of a complete run, which is the one to be tested.
    """
    progress: dict[str, Any] = {"step": step, "num_steps": num_steps, "complete": complete}
    if best is not None:
        progress["best"] = best
    recorded = read_provenance(workdir)
    if recorded.get("progress") != progress:
        write_json(workdir / PROVENANCE, {**recorded, "progress": progress})
