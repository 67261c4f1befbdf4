r"""Amount of knowledge: 10 % to 100 % of the training facts.

    python -m bridge_jax.sweep --config configs/ablations/fraction.py --workdir runs/fraction \
        --seeds 3

Test queries and held-out nodes are the same for all settings. Facts that are left out of training
are still filtered from the ranks. The number of steps stays the same, so fewer facts are seen more
often.

Expected (docs/results.md): test MRR rises from 0.163 to 0.197, by about 0.01 per doubling.
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
    """Yields one setting per fraction of the training facts."""
    for percent in (10, 25, 50, 100):
        yield f"{percent} %", {"fraction": percent / 100}
