"""AdamW with warm-up and decay, built from the config's optimizer part."""

import jax
import optax
from ml_collections import ConfigDict

from bridge_jax.errors import unknown
from bridge_jax.models.node_embedding import NODE_EMBEDDING

SCHEDULES = ("linear", "cosine")
LOGITS_RATE = 10.0
VECTORS = ("model", NODE_EMBEDDING)  # parts of the parameters that learn at the plain rate


def make_schedule(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Builds a learning-rate schedule: linear warm-up, then linear or cosine decay to zero.

    Args:
      config: The optimizer part: `learning_rate`, `warmup` (fraction of the steps), `schedule`.
      num_steps: Total number of training steps.

    Raises:
      InputError: The schedule is unknown.
    """
    if config.schedule not in SCHEDULES:
        raise unknown("optimizer.schedule", config.schedule, SCHEDULES, "this version")
    peak, warmup = config.learning_rate, max(1, round(config.warmup * num_steps))
    decay_steps = max(1, num_steps - warmup)
    decay = (
        optax.linear_schedule(peak, 0.0, decay_steps)
        if config.schedule == "linear"
        else optax.cosine_decay_schedule(peak, decay_steps)
    )
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), decay], [warmup])


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Builds AdamW after a clip of the global gradient norm.

    Norms and biases (vectors) have no weight decay. The temperature and the prior weights have far
    to go in few steps, so they learn at `LOGITS_RATE` times the rate.

    Args:
      config: The config's optimizer part.
      num_steps: Total number of training steps.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            make_schedule(config, num_steps),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
        optax.masked(optax.scale(LOGITS_RATE), lambda p: {k: k not in VECTORS for k in p}),
    )
