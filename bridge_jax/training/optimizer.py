"""The config's optimizer part as an optax chain."""

import jax
import optax
from ml_collections import ConfigDict

from bridge_jax.errors import unknown

SCHEDULES = ("linear", "cosine")
LOGITS_RATE = 10.0
VECTORS = ("model", "node_embedding")


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Linear warm-up, then linear or cosine decay to zero.

    Args:
      config: `learning_rate`, `warmup` (share of the steps), `schedule`.
      steps: of the whole run.

    Raises:
      InputError: an unknown schedule.
    """
    if config.schedule not in SCHEDULES:
        raise unknown("optimizer.schedule", config.schedule, SCHEDULES, "this version")
    peak, warmup = config.learning_rate, max(1, round(config.warmup * steps))
    decay = max(1, steps - warmup)
    tail = (
        optax.linear_schedule(peak, 0.0, decay)
        if config.schedule == "linear"
        else optax.cosine_decay_schedule(peak, decay)
    )
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), tail], [warmup])


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW after a clip of the global norm.

    Weight decay spares vectors (norms and biases). The temperature and the prior weights have far
    to go and few steps, and learn at `LOGITS_RATE` times the rate.

    Args:
      config: the config's optimizer part.
      steps: of the whole run.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            make_schedule(config, steps),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
        optax.masked(optax.scale(LOGITS_RATE), lambda p: {k: k not in VECTORS for k in p}),
    )
