"""A learned vector for each node: those that training sees get one, the others keep none."""

import jax
import jax.numpy as jnp
import numpy as np

import bridge_jax
from bridge_jax import config as configs
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.models.node_embedding import add_node_embedding
from bridge_jax.training import hooks, trainer


def test_residuals_are_learned_by_seen_nodes_and_used_by_all_who_score(recipe, tmp_path):
    overrides = ["--config.model.node_embedding=true", "--config.train.steps=4"]
    config = configs.load(str(recipe), overrides)
    assert trainer.train(config, tmp_path)
    opened = workdirs.load_run(tmp_path)
    graph, held = opened.experiment.graph, "molecular_function"
    residual = np.asarray(opened.params["node_embedding"][held])
    seen = np.isin(np.arange(len(residual)), graph.train_nodes(held))
    assert np.abs(residual[seen]).max() > 1e-3
    np.testing.assert_array_equal(residual[~seen], 0)

    kind = next(k for k in graph.triple_types if (k.head, k.tail) == ("gene/protein", held))
    scores = np.asarray(opened.scorer(kind, np.asarray([5], np.int32)))[0]
    bare = {k: v for k, v in opened.params.items() if k != "node_embedding"}
    without = np.asarray(opened.experiment.scorer(bare)(kind, np.asarray([5], np.int32)))[0]
    assert np.abs(scores - without).max() > 1e-3
    bridge = bridge_jax.load(tmp_path)
    head = opened.experiment.tables[kind.head].ids[5]
    best = bridge.retrieve(*kind, ids=[head], k=3, known="show", answer="bridge")
    np.testing.assert_allclose([r.score for r in best], np.sort(scores)[::-1][:3], rtol=1e-5)
    assert hooks.validate(opened.experiment, opened.params)["mrr"] > 0


def test_a_residual_is_left_out_as_often_as_asked():
    params = {"node_embedding": {"drug": jnp.ones((5, 2))}}
    nodes = jnp.zeros((40, 50), jnp.int32)
    z = jnp.zeros((40, 50, 2))
    out = np.asarray(add_node_embedding(params, "drug", z, nodes, jax.random.key(0), 0.3))
    assert abs((out[..., 0] == 0).mean() - 0.3) < 0.03
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    np.testing.assert_array_equal(add_node_embedding(params, "drug", z, nodes), 1)
    np.testing.assert_array_equal(add_node_embedding({}, "drug", z, nodes), 0)
