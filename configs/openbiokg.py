"""OpenBioKG: seven modalities, 47,307 nodes, 456,583 facts, two CPU cores, under twenty minutes.

    python -m bridge_jax.train --config configs/openbiokg.py --workdir runs/openbiokg \
        --config.dataset=openbiokg

The dataset directory comes from `tools.import_graph`; docs/results.md has the figures.
`configs/openbiokg.py:seen=True` is for a transductive split, whose queries are about nodes that
training has seen: they get learned vectors, and a memory of where the bridge puts them
and of their own facts.
"""

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config(seen: bool = False) -> ConfigDict:
    """The demo's bridge, trained longer on a larger graph."""
    config = configs.default()
    config.dataset = "openbiokg"
    config.model.update({"width": 256, "layers": 2, "heads": 4, "mlp_dim": 512})
    config.batch.update({"size": 1024, "sampling_alpha": 0.5})
    config.loss.update(
        {"negatives": "all", "learn_temperature": True, "prior": 0.5, "learn_prior": True}
    )
    config.optimizer.update({"learning_rate": 1.5e-3, "schedule": "cosine"})
    config.train.update({"steps": 1000, "validate_every": 500, "log_every": 10})
    config.evaluate.update({"bidirectional": True, "knn": True})
    if seen:
        config.model.node_embedding = True
        config.train.steps = 2000
        config.evaluate.knn_spaces = ("source", "bridged", "tails")
    return config
