r"""Frozen encoders: the same graph with embeddings of several encoders, one dataset per encoder.

    python -m bridge_jax.sweep --workdir runs/encoder \
        --config configs/ablations/encoder.py:datasets=data/unirep+data/esm2

A dataset directory holds the embeddings of one encoder per modality, so this study needs several
directories of the same graph and split (`tools.export_embeddings`, then `tools.import_graph` with
the same seed). No result is expected for the demo, which has one encoder per modality.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.errors import InputError


def get_config(datasets: str = "") -> ConfigDict:
    """Returns the base; `sweep` sets the dataset.

    Args:
      datasets: Dataset directories, joined by `+`.
    """
    del datasets
    return configs.load(Path(__file__).with_name("base.py"))


def sweep(datasets: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields one setting per dataset, named after its folder.

    Args:
      datasets: Dataset directories, joined by `+`.

    Raises:
      InputError: Fewer than two directories.
    """
    folders = [d for d in datasets.split("+") if d]
    if len(folders) < 2:
        raise InputError(
            "the encoder study compares dataset directories of one graph with other embeddings; "
            "name two or more: configs/ablations/encoder.py:datasets=data/a+data/b"
        )
    for folder in folders:
        yield Path(folder).name, {"dataset": folder}
