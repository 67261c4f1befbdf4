"""The released BioBridge recipe: 5 drawn negatives a row, temperature 0.1, no mask, raw embeddings.

    python -m bridge_jax.train --config configs/biobridge_recipe.py:like=demo --workdir runs/recipe
    python -m bridge_jax.evaluate --workdir runs/demo --compare-with runs/recipe

`like=demo` and `like=openbiokg` take the data, the model's size and the number of triples of that
config, so that only the recipe differs. Without it the size is the paper's (768 x 6, 10 epochs of
4,096 triples, one accelerator), and --config.dataset=FOLDER names the data.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.errors import unknown

_LIKE = ("demo", "openbiokg")


def get_config(like: str = "") -> ConfigDict:
    """The recipe of the release, in its own size or in that of another config."""
    if like and like not in _LIKE:
        raise unknown("like", like, _LIKE, "this config")
    if like:
        config = configs.load(Path(__file__).with_name(f"{like}.py"))
    else:
        config = configs.default()
    config.tables.transform = "none"
    config.batch.sampling_alpha = 1.0
    config.loss.update(
        {
            "negatives": "sampled",
            "num_sampled": 5,
            "mask": "none",
            "temperature": 0.1,
            "learn_temperature": False,
            "prior": 0.0,
            "learn_prior": False,
        }
    )
    config.optimizer.update(
        {"learning_rate": 1.6e-3, "schedule": "linear", "warmup": 0.1, "weight_decay": 1e-4}
    )
    config.evaluate.update({"bidirectional": False, "knn": False})
    return config
