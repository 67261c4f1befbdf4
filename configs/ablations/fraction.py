"""How much knowledge is needed: a part of the training facts.

    python -m bridge_jax.sweep --config configs/ablations/fraction.py --workdir runs/fraction

Test queries and held-out nodes are the same for all. Facts left out of training are still filtered
from the ranks. Steps stay the same, so fewer facts are seen more often.
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
    """10 to 100 % of the training facts."""
    for percent in (10, 25, 50, 100):
        yield f"{percent} %", {"fraction": percent / 100}
