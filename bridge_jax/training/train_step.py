"""The training state, and one step of it."""

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
    """Everything that a step changes.

    Attributes:
      step: steps done, int32 scalar.
      params: `{"model": …}` and what `logits` learns.
      opt_state: optax's state.
      ema: exponential moving average of `params`; None when the config asks for none.
    """

    step: jax.Array
    params: Mapping[str, Any]
    opt_state: Any
    ema: Mapping[str, Any] | None = None

    @property
    def evaluated(self) -> Mapping[str, Any]:
        """The parameters that validation, tests and users see."""
        return self.params if self.ema is None else self.ema


def init_state(
    init_params: Callable[[jax.Array], Mapping[str, Any]],
    optimizer: optax.GradientTransformation,
    seed: int,
    sharding: NamedSharding,
    averaged: bool = False,
) -> TrainState:
    """Initialise in place, under one jit; the same for a seed wherever it runs."""

    def init(key: jax.Array) -> TrainState:
        params = init_params(key)
        ema = jax.tree.map(jnp.array, params) if averaged else None
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), ema)

    return jax.jit(init, out_shardings=sharding)(jax.random.key(seed))


def train_step(
    state: TrainState,
    batch: Batch,
    data: DeviceData,
    key: jax.Array,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update.

    Args:
      state: before the step; donated.
      batch: the ids of `state.step`.
      data: what every step reads.
      key: of the run; folded with the step here.
      objective: static.
      optimizer: static.
      decay: of the moving average, if the state holds one; static.

    Returns:
      The new state, and scalars: `loss`, `grad_norm`.
    """
    step_key = jax.random.fold_in(key, state.step)
    value, grads = jax.value_and_grad(objective)(state.params, batch, data, step_key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
    ema = state.ema
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - decay)
    return TrainState(state.step + 1, params, opt_state, ema), metrics
