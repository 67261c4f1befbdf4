"""The training state and one update of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from bridge_jax.data.batches import Batch
from bridge_jax.training.device_data import DeviceData
from bridge_jax.training.objective import Objective


class TrainState(NamedTuple):
    """Everything that a training step changes.

    Attributes:
      step: Number of finished steps, an int32 scalar.
      params: `{"model": …}`, learned parts of the logits, and learned node embeddings.
      opt_state: State of the optax optimizer.
      ema: Exponential moving average of `params`; None if the config asks for none.
    """

    step: jax.Array
    params: Mapping[str, Any]
    opt_state: Any
    ema: Mapping[str, Any] | None = None

    @property
    def evaluated(self) -> Mapping[str, Any]:
        """Parameters that validation, tests and users see."""
        return self.params if self.ema is None else self.ema


def init_state(
    init_params: Callable[[jax.Array], Mapping[str, Any]],
    optimizer: optax.GradientTransformation,
    seed: int,
    sharding: NamedSharding,
    with_ema: bool = False,
) -> TrainState:
    """Initialises the state in place, under one jit; equal on any devices for equal seeds.

    Args:
      init_params: Function from a key to the parameters.
      optimizer: The optimizer.
      seed: Seed of the parameters.
      sharding: Sharding of every array of the state.
      with_ema: Whether to keep a moving average of the parameters.
    """

    def init(key: jax.Array) -> TrainState:
        params = init_params(key)
        ema = jax.tree.map(jnp.array, params) if with_ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), ema)

    return jax.jit(init, out_shardings=sharding)(jax.random.key(seed))


def train_step(
    state: TrainState,
    batch: Batch,
    data: DeviceData,
    key: jax.Array,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Applies one update; a pure function, to be jitted with the last three arguments static.

    Args:
      state: State before the step; donated.
      batch: Ids of step `state.step`.
      data: Data that every step reads.
      key: Key of the run; the step is folded into it here.
      objective: The loss.
      optimizer: The optimizer.
      ema_decay: Decay of the moving average, if the state holds one.

    Returns:
      The new state, and the scalars `loss` and `grad_norm`.
    """
    step_key = jax.random.fold_in(key, state.step)
    loss, grads = jax.value_and_grad(objective)(state.params, batch, data, step_key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    ema = state.ema
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - ema_decay)
    return TrainState(state.step + 1, params, opt_state, ema), metrics
