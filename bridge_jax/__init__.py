"""Bridges between frozen biomedical foundation models, in JAX.

Example:
  >>> bridge = bridge_jax.load("runs/demo")
  >>> bridge.retrieve("gene/protein", target="molecular_function", names=["TP53"])
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge_jax.predictor import Predictor

__version__ = version("bridge_jax")


def load(path: str | Path, dataset: str | None = None, step: int | None = None) -> "Predictor":
    """Opens a trained run or an exported bridge; see `bridge_jax.predictor`.

    Args:
      path: Folder of the run or of the exported bridge.
      dataset: Folder of the run's dataset; default: the config's.
      step: Step of a checkpoint; default: the best by validation.

    Raises:
      InputError: This is not a run, it has no such checkpoint, or the dataset is another one.
    """
    from bridge_jax import predictor  # imports JAX, so only when it is needed

    return predictor.load(path, dataset, step)
