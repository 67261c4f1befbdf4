"""PrimeKG as BioBridge was trained on it: the released recipe in its own size.

    python -m tools.import_biobridge --input BioBridge --output primekg
    python -m bridge_jax.train --config configs/primekg.py --workdir runs/primekg
    python -m bridge_jax.train --config configs/primekg.py:gpus=8 --workdir runs/primekg-8

`gpus=1` is the release's default command, `gpus=8` its large run (8 x 4,096 triples, 50 epochs);
`negatives=in_batch` takes the other rows of the batch, as the paper's InfoNCE loss has it; the
released trainer draws five negatives a row.

Not run here: needs the release's embeddings (ESM-2 3B, Uni-Mol, PubMedBERT) and an accelerator; on
two CPU cores an epoch would take hours (docs/performance.md). So no figures are expected.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config(gpus: int = 1, negatives: str = "sampled") -> ConfigDict:
    """The fields that the release names in its arguments; the rest are the defaults."""
    config = configs.load(Path(__file__).with_name("biobridge_recipe.py"))
    config.dataset = "primekg"
    config.loss.negatives = negatives
    config.batch.size = 4096 * gpus
    if gpus > 1:
        config.train.epochs = 50.0
        config.optimizer.learning_rate = 5e-4
    return config
