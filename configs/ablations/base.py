"""Base of all ablations: the demo for 300 steps, evaluated without baselines.

Another dataset or length: --config.dataset=FOLDER --config.train.steps=2000.

Expected test MRR, mean over tasks (docs/results.md): 0.197 ± 0.006 over three seeds. A run takes
half a minute on two CPU cores.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the demo's recipe for 300 steps, without kNN and baselines."""
    config = configs.load(Path(__file__).parents[1] / "demo.py")
    config.train.update({"steps": 300, "validate_every": 100})
    config.evaluate.update({"knn": False, "baselines": ()})
    return config
