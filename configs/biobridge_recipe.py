"""The released BioBridge recipe: 5 sampled negatives, temperature 0.1, no mask, raw embeddings.

    python -m bridge_jax.train --config configs/biobridge_recipe.py:like=demo --workdir runs/recipe
    python -m bridge_jax.evaluate --workdir runs/demo --compare-with runs/recipe

`like=demo` and `like=openbiokg` take dataset, model size and number of triples from that config, so
that only the recipe differs. Without it the size is the paper's (768 x 6, 10 epochs of batches of
4,096 triples), and --config.dataset=FOLDER names the dataset.

Expected test MRR, mean over tasks (docs/results.md): 0.163 like the demo, 0.108 like OpenBioKG.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.errors import unknown

_LIKE = ("demo", "openbiokg")


def get_config(like: str = "") -> ConfigDict:
    """Returns the released recipe.

    Args:
      like: Config whose dataset and size to take, `demo` or `openbiokg`; default: the paper's
        size without a dataset.

    Raises:
      InputError: There is no such config to take them from.
    """
    if like and like not in _LIKE:
        raise unknown("like", like, _LIKE, "this config")
    config = configs.load(Path(__file__).with_name(f"{like}.py")) if like else configs.default()
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
