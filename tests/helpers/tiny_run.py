"""A small real run: a config over a few hundred nodes that are cut from the demo."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "data/demo"
EXCERPT = ROOT / "tests/fixtures/openbiokg_excerpt/kg.csv"
STEPS = 12
CONFIG = """
from bridge_jax import config as configs

def get_config(steps={steps}):
    config = configs.default()
    config.dataset, config.devices = {dataset!r}, 1
    config.model.update({{"width": 16, "layers": 1, "heads": 2, "mlp_dim": 16}})
    config.loss.update({{"negatives": "all", "learn_temperature": True}})
    config.optimizer.learning_rate = 0.01
    config.evaluate.knn = True
    config.batch.update({{"size": 32, "sampling_alpha": 0.5, "shards": 2}})
    config.train.update({{"steps": steps, "validate_every": 4, "save_every": 3, "log_every": 1}})
    return config
"""
