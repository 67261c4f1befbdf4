"""The bridge against golden numbers of the released PyTorch implementation."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridge_jax.models.bridge import (
    ARCHITECTURES,
    Bridge,
    Dropout,
    EncoderLayer,
    bridge,
    init_params,
    normalise,
    project,
)
from bridge_jax.training.contrastive_loss import info_nce, sampled_nce
from tools.biobridge.weights import from_params, to_params

TYPES = (("a", 24), ("b", 40), ("c", 16), ("unseen", 0))
MODEL = Bridge(TYPES, ("r0", "r1", "r2"), width=12, layers=2, heads=12, dropout=0.0)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "fixtures/parity_small.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def params(golden: dict[str, np.ndarray]) -> dict:
    prefix = "state_dict/"
    state = {k[len(prefix) :]: v for k, v in golden.items() if k.startswith(prefix)}
    return to_params(state, MODEL)


def forward(params: dict, golden: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bridged heads, projected tails and projected negatives of the golden rows."""

    def rows(name: str, types: np.ndarray) -> jax.Array:
        parts = [
            project(MODEL, params, TYPES[t][0], jnp.atleast_2d(golden[f"{name}/{i}"]))
            for i, t in enumerate(types)
        ]
        return jnp.stack(parts)

    columns = [golden[k] for k in ("head_type", "relation", "tail_type")]
    triple_types = jnp.asarray(np.stack(columns, axis=1), jnp.int32)
    z = rows("head", golden["head_type"])[:, 0]
    transformed = bridge(MODEL, params, z, jnp.arange(len(z)), triple_types)
    tails = rows("tail", golden["tail_type"])[:, 0]
    return transformed, tails, rows("negatives", golden["tail_type"])


def in_batch(params: dict, golden: dict[str, np.ndarray]) -> jax.Array:
    query, key, _ = map(normalise, forward(params, golden))
    logits = query @ key.T / 0.1
    others = jax.nn.logsumexp(jnp.where(jnp.eye(len(key), dtype=bool), -jnp.inf, logits), axis=1)
    return info_nce(jnp.diagonal(logits), others).mean()


def sampled(params: dict, golden: dict[str, np.ndarray]) -> jax.Array:
    query, key, negatives = map(normalise, forward(params, golden))
    return sampled_nce(query, key, negatives, None, 1 / 0.1).mean()


def test_forward_agrees_with_the_release(params, golden):
    transformed, tails, _ = forward(params, golden)
    np.testing.assert_allclose(transformed, golden["transformed"], **TOLERANCE)
    np.testing.assert_allclose(tails, golden["projected_tail"], **TOLERANCE)


@pytest.mark.parametrize(("name", "function"), [("in_batch", in_batch), ("paired", sampled)])
def test_loss_and_gradients_agree_with_the_release(params, golden, name, function):
    value, grads = jax.jit(jax.value_and_grad(lambda p: function(p, golden)))(params)
    np.testing.assert_allclose(value, golden[f"{name}_loss"], **TOLERANCE)
    ours = from_params(grads, MODEL)
    theirs = {k.split("/", 1)[1]: v for k, v in golden.items() if k.startswith(f"grad_{name}/")}
    assert set(theirs) == set(ours)
    for key, expected in theirs.items():
        np.testing.assert_allclose(ours[key], expected, **TOLERANCE, err_msg=key)


def test_released_weights_round_trip(params, golden):
    state = from_params(params, MODEL)
    for key, value in state.items():
        np.testing.assert_array_equal(value, golden[f"state_dict/{key}"], err_msg=key)


def test_paper_size_has_the_papers_parameters():
    dims = {"protein": 2560, "drug": 512, **dict.fromkeys(("mf", "bp", "cc", "disease"), 768)}
    without = dict.fromkeys(("anatomy", "exposure", "pathway", "phenotype"), 0)  # PrimeKG has ten
    model = Bridge(tuple((dims | without).items()), tuple(f"r{i}" for i in range(18)))
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    assert sum(int(np.prod(p.shape)) for p in jax.tree.leaves(shapes)) == 37_827_072


@pytest.mark.parametrize("layers", [1, 3])
def test_shared_tokens_and_the_short_last_layer_change_nothing(layers):
    """Shared first-layer projections and a last layer on token 0, against the plain encoder."""
    dims = (("a", 8), ("b", 8))
    model = Bridge(dims, ("r", "s"), width=16, layers=layers, heads=4, mlp_dim=32, dropout=0.0)
    params = init_params(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(10, 16)), jnp.float32)
    triple_types = jnp.asarray([[0, 0, 1], [1, 1, 0], [0, 1, 0]], jnp.int32)
    triple_type = jnp.asarray(rng.integers(0, 3, 10), jnp.int32)

    def plain(params: dict) -> jax.Array:
        context = model.apply({"params": params}, triple_types, method=Bridge.context_tokens)
        x = jnp.concatenate([z[:, None], context[triple_type]], axis=1)
        layer = EncoderLayer(4, 32, 0.0)
        for i in range(layers):
            x = layer.apply({"params": params[f"layer{i}"]}, x, 4, True)
        return x[:, 0] + z

    def saving(params: dict) -> jax.Array:
        return bridge(model, params, z, triple_type, triple_types)

    np.testing.assert_allclose(saving(params), plain(params), rtol=1e-5, atol=1e-6)
    weights = jnp.asarray(rng.normal(size=(10, 16)), jnp.float32)
    slopes = [jax.grad(lambda p, f=f: (f(p) * weights).sum())(params) for f in (saving, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *slopes)


def test_bfloat16_stays_close_and_keeps_float32_where_it_matters():
    dims = (("a", 8),)
    make = partial(Bridge, dims, ("r",), width=32, layers=2, heads=4, mlp_dim=64, dropout=0.0)
    wide, narrow = make(), make(dtype=jnp.bfloat16)
    params = init_params(narrow, jax.random.key(0))
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 8)), jnp.float32)
    triple_types, triple_type = jnp.zeros((1, 3), jnp.int32), jnp.zeros(50, jnp.int32)
    out = [
        bridge(m, params, project(m, params, "a", x), triple_type, triple_types)
        for m in (wide, narrow)
    ]
    assert out[1].dtype == jnp.float32  # the last norm's
    cosine = (normalise(out[0]) * normalise(out[1])).sum(-1)
    assert 0.9995 < cosine.min() < 1


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = jnp.ones((400, 3, 501), jnp.bfloat16)
    drop = Dropout(0.1, deterministic=False)
    out = np.asarray(drop.apply({}, x, rngs={"dropout": jax.random.key(0)}), np.float32)
    kept = out[out > 0]
    assert (out == 0).mean() == pytest.approx(0.1, abs=0.002)
    np.testing.assert_allclose(kept, 1 / 0.9, rtol=1e-2)
    assert (out == 0).mean(axis=(0, 1)).max() < 0.16  # no place is dropped more than others
    again = np.asarray(drop.apply({}, x, rngs={"dropout": jax.random.key(1)}), np.float32)
    assert ((out == 0) & (again == 0)).mean() == pytest.approx(0.01, abs=0.002)
    np.testing.assert_array_equal(Dropout(0.1, deterministic=True).apply({}, x), x)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_runs_with_and_without_dropout(arch):
    model = Bridge((("drug", 5), ("protein", 3)), ("target",), arch, 8, 2, 2, 16, 0.5)
    params = init_params(model, jax.random.key(0))
    triple_types = jnp.array([[0, 0, 1]])
    z = project(model, params, "drug", jnp.ones((4, 5)))
    plain, dropped = (
        bridge(model, params, z, jnp.zeros(4, jnp.int32), triple_types, key)
        for key in (None, jax.random.key(1))
    )
    assert plain.shape == (4, 8)
    assert bool((plain == dropped).all()) == (arch in ("linear", "projection_only"))
