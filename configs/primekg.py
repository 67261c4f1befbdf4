"""PrimeKG with the recipe and size of the released BioBridge.

    python -m tools.import_biobridge --input BioBridge --output primekg
    python -m bridge_jax.train --config configs/primekg.py --workdir runs/primekg
    python -m bridge_jax.train --config configs/primekg.py:gpus=8 --workdir runs/primekg-8

`gpus=1` is the release's default command, `gpus=8` its large run (8 x 4,096 triples, 50 epochs).
`negatives=in_batch` takes the other rows of the batch as negatives, as the paper's InfoNCE loss
does; the released trainer samples five negatives per row.

No expected result: the config has not been run. It needs the release's embeddings (ESM-2 3B,
Uni-Mol, PubMedBERT) and an accelerator; on two CPU cores an epoch would take hours
(docs/performance.md).
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config(gpus: int = 1, negatives: str = "sampled") -> ConfigDict:
    """Returns the released recipe in the size of the paper.

    Args:
      gpus: Number of devices of the released command to follow, 1 or 8.
      negatives: Value of `loss.negatives`.
    """
    config = configs.load(Path(__file__).with_name("biobridge_recipe.py"))
    config.dataset = "primekg"
    config.loss.negatives = negatives
    config.batch.size = 4096 * gpus
    if gpus > 1:
        config.train.epochs = 50.0
        config.optimizer.learning_rate = 5e-4
    return config
