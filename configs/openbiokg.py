r"""OpenBioKG: 7 modalities, 47,307 nodes and 456,583 facts, under 20 minutes on two CPU cores.

    python -m bridge_jax.train --config configs/openbiokg.py --workdir runs/openbiokg \
        --config.dataset=openbiokg

The dataset directory comes from `tools.import_graph`. Expected test MRR, mean over tasks
(docs/results.md): 0.170 for the bridge, 0.207 for the fusion.

`configs/openbiokg.py:seen=True` is for a transductive split, on which training has seen the nodes
of all queries. It adds a learned vector per node, and the kNN votes of bridged heads and of tails.
Expected on that split: 0.228 for the bridge, 0.264 for the fusion.
"""

from ml_collections import ConfigDict

from bridge_jax import config as configs


def get_config(seen: bool = False) -> ConfigDict:
    """Returns a wider bridge than the demo's, trained for longer.

    Args:
      seen: Whether training has seen the nodes of the queries, as on a transductive split.
    """
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
