"""Tables on every device, spread over them, or on the host: one batch, one loss, one gradient."""

from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax import config as configs
from bridge_jax.data.batches import Batches
from bridge_jax.data.embedding_tables import EmbeddingTable
from bridge_jax.distributed import placement
from bridge_jax.distributed.mesh import make_mesh, row_sharding
from bridge_jax.distributed.placement import lookup, put_tables, resolve_placement, with_vectors
from bridge_jax.errors import InputError
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.training.device_data import put_device_data
from bridge_jax.training.objective import Objective
from bridge_jax.training.prefetch import prefetch

TABLE = EmbeddingTable(
    [str(i) for i in range(11)],
    np.random.default_rng(0).normal(size=(11, 3)).astype(np.float16),
    np.ones(3, np.float32),
    np.full(3, 2, np.float32),
)


@pytest.mark.parametrize(("devices", "table"), [(1, 1), (4, 4), (8, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_lookup_gives_the_rows_wherever_they_lie(devices, table, dtype):
    mesh = make_mesh(8, devices, table)
    placed = put_tables({"drug": TABLE}, "sharded", mesh, dtype)["drug"]
    assert placed.sharding.shard_shape(placed.shape)[0] == -(-11 // table)
    nodes = np.random.default_rng(1).integers(0, 11, (8, 5))
    found = jax.jit(lambda t, n: lookup(t, n, mesh))(
        placed, jax.device_put(nodes, row_sharding(mesh))
    )
    expected = TABLE.model_inputs(nodes.ravel()).reshape(8, 5, 3).astype(jnp.dtype(dtype))
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("grad_cache", [False, True])
def test_every_placement_gives_the_same_loss_and_gradients(recipe, grad_cache):
    """On four devices; the tables are sharded over two of them."""
    found = {}
    for where in ("replicated", "sharded", "host"):
        overrides = ["--config.loss.negatives=in_batch", "--config.devices=4"]
        overrides += ["--config.batch.size=64", "--config.batch.shards=8"]
        overrides += [f"--config.tables.placement={where}", "--config.tables.devices=2"]
        experiment = Experiment.from_config(configs.load(str(recipe), overrides))
        assert experiment.mesh.shape["table"] == (2 if where == "sharded" else 1)
        data = put_device_data(experiment)
        assert bool(data.tables) == (where != "host")
        batches = Batches(experiment.graph.pairs(["train"]), 64, 0.5, 0, 8)
        batch = batches(1)
        if where == "host":
            batch = with_vectors(batch, batches.groups, experiment.tables, "float32")
        batch = jax.device_put(batch, row_sharding(experiment.mesh))
        made = Objective(
            experiment.model,
            batches.groups,
            experiment.graph.triple_types,
            experiment.config.loss,
            experiment.mesh,
            grad_cache,
        )
        params = jax.jit(experiment.init_params)(jax.random.key(0))
        key = jax.random.key(1)
        found[where] = jax.jit(jax.value_and_grad(made))(params, batch, data, key)
    for where in ("sharded", "host"):
        jax.tree.map(
            lambda a, b, w=where: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=w),
            found[where],
            found["replicated"],
        )


def test_auto_takes_the_first_that_fits(monkeypatch):
    monkeypatch.setattr(placement, "device_memory", lambda: 400)
    assert resolve_placement("auto", 100, "in_batch", 4) == "replicated"
    assert resolve_placement("auto", 400, "in_batch", 4) == "sharded"
    assert resolve_placement("auto", 401, "in_batch", 4) == "host"
    assert resolve_placement("auto", 401, "all", 4) == "sharded"


def test_what_cannot_be_is_refused(recipe):
    with pytest.raises(InputError, match=r"placement = host .* loss.negatives = all"):
        Experiment.from_config(configs.load(str(recipe), ["--config.tables.placement=host"]))
    with pytest.raises(InputError, match="did you mean 'sharded'"):
        resolve_placement("shard", 1, "all", 1)
    with pytest.raises(InputError, match=r"tables\.devices 3 does not divide the 8 devices"):
        make_mesh(8, 8, 3)


def test_a_prefetch_gives_the_values_in_order_and_raises_its_errors():
    def function(step: int) -> int:
        if step == 6:
            raise ValueError("step 6")
        return step * step

    with closing(prefetch(map(function, range(3, 8)))) as following:
        assert [next(following) for _ in range(3)] == [9, 16, 25]
        with pytest.raises(ValueError, match="step 6"):
            next(following)
