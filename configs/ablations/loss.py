"""Which loss: softmax over the candidates, over both sides, or a sigmoid for each pair.

python -m bridge_jax.sweep --config configs/ablations/loss.py --workdir runs/loss
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """The base with in-batch negatives, the only ones that a symmetric loss can have."""
    config = configs.load(Path(__file__).with_name("base.py"))
    config.loss.update({"negatives": "in_batch", "prior": 0.0, "learn_prior": False})
    return config


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """InfoNCE over the tails (the base), over tails and heads, and the sigmoid loss."""
    yield "over tails", {}
    yield "symmetric", {"loss.symmetric": True}
    yield "sigmoid", {"loss.type": "sigmoid"}
