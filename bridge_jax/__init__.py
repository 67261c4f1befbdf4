"""Bridges between frozen biomedical foundation models."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge_jax.predictor import Predictor

__version__ = version("bridge_jax")


def load(path: str | Path, dataset: str | None = None, step: int | None = None) -> "Predictor":
    """Open a trained bridge to use it; see `bridge_jax.predictor`.

    Args:
      path: a run's workdir.
      dataset: another place of the run's dataset; by default the config's.
      step: a checkpoint's step; by default the best by validation.

    Raises:
      InputError: not a run, no checkpoint yet, or not its dataset.
    """
    from bridge_jax import predictor as trained

    return trained.load(path, dataset, step)
