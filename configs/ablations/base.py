"""What every study starts from: the demo, shortened, tested without baselines.

Another dataset or length: --config.dataset=FOLDER --config.train.steps=2000.
"""

from ml_collections import ConfigDict

from configs.demo import get_config as demo


def get_config() -> ConfigDict:
    """The demo's recipe for 300 steps (about half a minute on two CPU cores), the bridge alone."""
    config = demo()
    config.train.update({"steps": 300, "validate_every": 100})
    config.evaluate.update({"memory": False, "baselines": ()})
    return config
