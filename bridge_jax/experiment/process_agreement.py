"""Comparison of what the processes of a run are about to do, before its first step."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment.workdir import versions

_SHOWN = 5  # differences in a message


def check_processes_agree(config: ConfigDict) -> None:
    """Compares config, dataset and package versions of all processes of a run.

    Folders of this machine do not count: the same dataset may lie elsewhere on another one.

    Raises:
      InputError: They differ, or one of them cannot read its dataset; on all processes alike.
    """
    if jax.process_count() > 1:
        message = describe_disagreement(gather_json(_facts(config)))
        if message:
            raise InputError(message)


def all_or_none(action: Callable[[], None]) -> None:
    """Runs an action on the first process, and raises its `InputError` on all processes.

    Without this the others would wait for a process that has ended.
    """
    message = ""
    if jax.process_index() == 0:
        try:
            action()
        except InputError as e:
            message = str(e)
            if jax.process_count() == 1:
                raise
    if jax.process_count() > 1:
        message = gather_json({"message": message})[0]["message"]
        if message:
            raise InputError(message)


def describe_disagreement(facts: list[Mapping[str, Any]]) -> str:
    """Describes how the facts of a process differ from those of process 0; empty if none does."""
    for process, own in enumerate(facts):
        if error := own.get("error"):
            return f"process {process}: {error}"
    first = facts[0]
    for process, own in enumerate(facts[1:], 1):
        names = [name for name in {**first, **own} if first.get(name) != own.get(name)]
        if names:
            shown = "; ".join(
                f"{name} = {own.get(name)!r}, not {first.get(name)!r}" for name in names[:_SHOWN]
            )
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            return (
                f"process {process} differs from process 0: {shown}{more}; start all processes "
                "with the same config, dataset and versions"
            )
    return ""


def gather_json(value: Mapping[str, Any]) -> list[Any]:
    """Returns the JSON values of all processes, in their order."""
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(own)))).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(own)] = own
    gathered = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [json.loads(row[:size].tobytes()) for row, size in zip(gathered, sizes, strict=True)]


def _facts(config: ConfigDict) -> dict[str, Any]:
    """Returns what all processes must have in common, by name."""
    facts = {name: value for name, value in configs.flatten(config) if name != "dataset"}
    try:
        if not config.dataset:
            raise InputError("the config names no dataset; pass --config.dataset=FOLDER")
        facts["dataset (manifest)"] = read_manifest(config.dataset).hash()
    except InputError as e:
        facts["error"] = str(e)
    return facts | {f"version of {name}": version for name, version in versions().items()}
