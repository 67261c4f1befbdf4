"""What the bridge is worth: a transformer, an MLP, a linear map, or projections alone.

    python -m bridge_jax.sweep --config configs/ablations/form.py --workdir runs/form

`projection_only` knows no relation: the CLIP-style control. Without the popularity prior, which
would tell it of the relation.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.models.bridge import ARCHITECTURES


def get_config() -> ConfigDict:
    """The base without the prior."""
    config = configs.load(Path(__file__).with_name("base.py"))
    config.loss.update({"prior": 0.0, "learn_prior": False})
    return config


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every form of the bridge."""
    for form in ARCHITECTURES:
        yield form.replace("_", " "), {"model.arch": form}
