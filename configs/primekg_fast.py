r"""PrimeKG with the recipe that our ablations recommend (docs/results.md), for one accelerator.

    python -m tools.import_graph --format primekg --input kg.csv --embeddings FOLDER \
        --output primekg
    python -m bridge_jax.train --config configs/primekg_fast.py --workdir runs/primekg-fast

The negatives are all nodes of the tail type, with known positives masked. Temperature and
popularity prior are learned, triple types are sampled in proportion to the square root of their
facts, embeddings are standardised, the computation is in bfloat16, and the depth is a third of the
paper's. The best checkpoint by validation is kept, and training ends after three validations
without a better one.

No expected result: the config has not been run. It needs PrimeKG, embeddings of its nodes and an
accelerator. The recipe was measured on OpenBioKG (configs/openbiokg.py), its parts on the demo
(configs/ablations/).
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """Returns the recipe of `openbiokg.py` with the width of the paper."""
    config = configs.load(Path(__file__).with_name("openbiokg.py"))
    config.dataset = "primekg"
    config.model.update(
        {"width": 768, "layers": 2, "heads": 12, "mlp_dim": 2048, "dtype": "bfloat16"}
    )
    config.batch.size = 4096
    config.optimizer.learning_rate = 5e-4
    config.train.update({"steps": 0, "epochs": 10.0, "validate_every": 1000, "patience": 3})
    return config
