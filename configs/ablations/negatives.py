r"""Negatives: a few sampled ones, those of the batch, or all nodes; with and without the mask.

    python -m bridge_jax.sweep --config configs/ablations/negatives.py --workdir runs/negatives \
        --seeds 3

All settings train on the same number of triples, so a larger batch takes fewer steps. The
popularity prior is off because only `all` could train it.

Expected (docs/results.md): 0.185 to 0.199 test MRR for `all` and `sampled`, 0.157 to 0.171 for
`in batch`, where the mask is worth 0.014.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the base without the popularity prior."""
    config = configs.load(Path(__file__).with_name("base.py"))
    config.loss.update({"prior": 0.0, "learn_prior": False})
    return config


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the choices of negatives, each with and without the mask of known positives."""
    triples = 300 * 1024
    yield "sampled 5", {"loss.negatives": "sampled"}
    yield "sampled 5, no mask", {"loss.negatives": "sampled", "loss.mask": "none"}
    for size in (256, 1024, 4096):
        steps = triples // size
        length = {"batch.size": size, "train.steps": steps, "train.validate_every": steps // 3}
        yield f"in batch {size}", {"loss.negatives": "in_batch", **length}
    yield "in batch 1024, no mask", {"loss.negatives": "in_batch", "loss.mask": "none"}
    yield "all", {"loss.negatives": "all"}
    yield "all, no mask", {"loss.negatives": "all", "loss.mask": "none"}
