"""PrimeKG with what our ablations recommend (docs/results.md), for one accelerator.

    python -m tools.import_graph --format primekg --input kg.csv --embeddings FOLDER \
        --output primekg
    python -m bridge_jax.train --config configs/primekg_fast.py --workdir runs/primekg-fast

All candidates as negatives, known positives masked, a learned temperature, a popularity prior,
triple types in proportion to the square root of their facts, standardised embeddings, bfloat16, and
a third of the paper's depth. The best checkpoint by validation counts, and training ends when three
validations in a row bring no better one.

Not run here: needs PrimeKG, embeddings of its nodes and an accelerator. The recipe was measured on
OpenBioKG (configs/openbiokg.py), its parts on the demo (configs/ablations/).
"""

from pathlib import Path

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config() -> ConfigDict:
    """OpenBioKG's recipe at the paper's width."""
    config = configs.load(Path(__file__).with_name("openbiokg.py"))
    config.dataset = "primekg"
    config.model.update(
        {"width": 768, "layers": 2, "heads": 12, "mlp_dim": 2048, "dtype": "bfloat16"}
    )
    config.batch.size = 4096
    config.optimizer.learning_rate = 5e-4
    config.train.update({"steps": 0, "epochs": 10.0, "validate_every": 1000, "patience": 3})
    return config
