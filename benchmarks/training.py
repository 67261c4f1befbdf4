"""Set-up of a training run without its command, for the benchmarks of the training step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from bridge_jax.data.batches import Batches
from bridge_jax.data.graph import Graph
from bridge_jax.distributed.mesh import replicated
from bridge_jax.models.bridge import init_params, make_model
from bridge_jax.training.objective import Objective
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.train_step import TrainState, init_state, train_step


def make_training(
    config: ConfigDict,
    graph: Graph,
    dims: Sequence[tuple[str, int]],
    batches: Batches,
    mesh: Mesh,
    num_steps: int,
) -> tuple[TrainState, Callable[..., Any]]:
    """Initialises a training state and jits its update.

    Args:
      config: Config of the run.
      graph: Split graph.
      dims: Name and embedding dimension of each node type.
      batches: Batches of the run.
      mesh: Device mesh.
      num_steps: Total number of training steps, for the learning-rate schedule.

    Returns:
      The initial state, and the jitted `train_step` as a function of state (donated), batch, data
      and key.
    """
    model = make_model(config.model, dims, graph.relations)
    objective = Objective(
        model, batches.groups, graph.triple_types, config.loss, mesh, config.batch.grad_cache
    )
    optimizer = make_optimizer(config.optimizer, num_steps)
    state = init_state(lambda k: {"model": init_params(model, k)}, optimizer, 0, replicated(mesh))
    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer), donate_argnums=0
    )
    return state, update
