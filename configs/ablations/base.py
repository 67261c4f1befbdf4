"""What every study starts from: the demo, shortened, tested without baselines.

Another dataset or length: --config.dataset=FOLDER --config.train.steps=2000.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """The demo's recipe for 300 steps (about half a minute on two CPU cores), the bridge alone."""
    config = configs.load(Path(__file__).parents[1] / "demo.py")
    config.train.update({"steps": 300, "validate_every": 100})
    config.evaluate.update({"knn": False, "baselines": ()})
    return config
