"""The temperature, fixed or learned.

python -m bridge_jax.sweep --config configs/ablations/temperature.py --workdir runs/temperature
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the base config."""
    return configs.load(Path(__file__).with_name("base.py"))


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Learned from 0.1 on (the base), and fixed ones."""
    yield "learned", {}
    for temperature in (0.02, 0.05, 0.1, 0.2):
        fixed = {"loss.temperature": temperature, "loss.learn_temperature": False}
        yield f"fixed {temperature}", fixed
