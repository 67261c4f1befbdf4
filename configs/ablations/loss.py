"""Loss function: softmax over the tails, softmax over tails and heads, or a sigmoid per pair.

    python -m bridge_jax.sweep --config configs/ablations/loss.py --workdir runs/loss --seeds 3

Expected (docs/results.md): all three are level, at 0.165 to 0.171 test MRR.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the base with in-batch negatives, which a symmetric loss requires."""
    config = configs.load(Path(__file__).with_name("base.py"))
    config.loss.update({"negatives": "in_batch", "prior": 0.0, "learn_prior": False})
    return config


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields InfoNCE over the tails (the base), over tails and heads, and the sigmoid loss."""
    yield "over tails", {}
    yield "symmetric", {"loss.symmetric": True}
    yield "sigmoid", {"loss.type": "sigmoid"}
