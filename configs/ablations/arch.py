"""Architecture of the bridge: transformer, MLP, linear map, or projections only.

    python -m bridge_jax.sweep --config configs/ablations/arch.py --workdir runs/arch --seeds 3

`projection_only` ignores the relation, as CLIP would. The popularity prior is off because it would
tell that model about the relation.

Expected at 150 steps (docs/results.md): the transformer, MLP and linear map are level at 0.19 test
MRR; projections only are a few per cent behind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.models.bridge import ARCHITECTURES


def get_config() -> ConfigDict:
    """Returns the base without the popularity prior."""
    config = configs.load(Path(__file__).with_name("base.py"))
    config.loss.update({"prior": 0.0, "learn_prior": False})
    return config


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields one setting per architecture."""
    for arch in ARCHITECTURES:
        yield arch.replace("_", " "), {"model.arch": arch}
