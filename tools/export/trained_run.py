"""A training run as a pretrained bridge, ready to be saved."""

import jax
import numpy as np

from bridge_jax import predictor
from bridge_jax.data.encoder_spec import SPEC_KEY
from bridge_jax.experiment.workdir import TrainedRun
from bridge_jax.models.pretrained import PretrainedBridge


def pretrained_from_run(run: TrainedRun) -> PretrainedBridge:
    """Collects parameters, transforms and vocabulary of a run's checkpoint.

    Args:
      run: Run, loaded at the checkpoint to export.

    Returns:
      The pretrained bridge; its arrays are on the host.
    """
    bridge, manifest = predictor.from_run(run), run.experiment.manifest
    return PretrainedBridge(
        config=bridge.config,
        params=jax.tree.map(np.asarray, bridge.params),
        transforms={name: (t.mean, t.matrix) for name, t in bridge.transforms.items()},
        node_types=tuple(
            {"name": t.name, "dim": t.dim, "encoder": t.encoder, "pooling": t.pooling}
            | ({SPEC_KEY: t.encoder_spec.to_json()} if t.encoder_spec else {})
            for t in manifest.node_types
        ),
        relations=manifest.relations,
        triple_types=bridge.triple_types,
        step=run.step,
        manifest=manifest.hash(),
        dataset=manifest.name,
    )
