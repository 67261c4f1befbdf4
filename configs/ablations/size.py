"""Depth and width of the bridge.

    python -m bridge_jax.sweep --config configs/ablations/size.py --workdir runs/size --seeds 3

Expected (docs/results.md): 0.194 to 0.198 test MRR for all sizes but the narrowest (0.185).
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
    """Yields four depths at width 128, then two widths at depth 2."""
    for layers in (1, 2, 4, 6):
        yield f"{layers} layers of 128", {"model.layers": layers}
    for width in (64, 256):
        yield f"2 layers of {width}", {"model.width": width, "model.mlp_dim": 2 * width}
