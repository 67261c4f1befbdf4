r"""Temperature of the loss: learned or fixed.

    python -m bridge_jax.sweep --config configs/ablations/temperature.py \
        --workdir runs/temperature --seeds 3

Expected (docs/results.md): 0.197 test MRR learned, 0.193 fixed at 0.1, 0.143 fixed at 0.2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the base."""
    return configs.load(Path(__file__).with_name("base.py"))


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the learned temperature, which starts at 0.1 (the base), and four fixed ones."""
    yield "learned", {}
    for temperature in (0.02, 0.05, 0.1, 0.2):
        fixed = {"loss.temperature": temperature, "loss.learn_temperature": False}
        yield f"fixed {temperature}", fixed
