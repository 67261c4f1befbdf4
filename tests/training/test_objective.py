"""The objective against a dense float64 reference: values and gradients, in every mode."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.batches import Batch, Batches
from bridge_jax.data.graph import Facts, Graph, known_positives
from bridge_jax.distributed.mesh import AXES, make_mesh, replicated, row_sharding
from bridge_jax.errors import InputError
from bridge_jax.models.bridge import Bridge, init_params, normalise, project
from bridge_jax.models.logits import init_logits, log_popularity
from bridge_jax.training.contrastive_loss import Contrast, Softmax, reduce_all_gather, reduce_ring
from bridge_jax.training.device_data import (
    DeviceData,
    device_data,
    known_among,
    known_bits,
    known_pairs,
)
from bridge_jax.training.objective import Objective


class Rows(NamedTuple):
    query_ND: jax.Array


class Keys(NamedTuple):
    key_MD: jax.Array


COUNTS = {"drug": 11, "gene/protein": 40}
DIMS = {"drug": 5, "gene/protein": 7}


@pytest.fixture(scope="module")
def graph() -> Graph:
    rng = np.random.default_rng(0)
    drugs, proteins = rng.integers(0, 11, 90), 11 + rng.integers(0, 40, 90)
    pairs = np.unique(np.stack([drugs, proteins]), axis=1).astype(np.int32)
    other = np.unique(np.sort(11 + rng.integers(0, 40, (2, 70)), axis=0), axis=1).astype(np.int32)
    other = other[:, other[0] != other[1]]
    head, tail = np.concatenate([pairs, other], axis=1)
    relation = np.repeat(np.array([0, 1], np.int32), [pairs.shape[1], other.shape[1]])
    held = np.array([3, 15], np.int32)
    keep = ~(np.isin(head, held) | np.isin(tail, held))
    rows = {"train": keep, "test": ~keep}
    facts = {
        s: Facts(head[k], relation[k], tail[k], np.ones(k.sum(), np.int32)) for s, k in rows.items()
    }
    return Graph(tuple(COUNTS), tuple(COUNTS.values()), ("target", "ppi"), facts, {"test": held})


@pytest.fixture(scope="module")
def data(graph: Graph) -> DeviceData:
    rng = np.random.default_rng(1)
    return device_data(
        graph, {t: jnp.asarray(rng.normal(size=(COUNTS[t], DIMS[t])), jnp.float32) for t in COUNTS}
    )


MODEL = Bridge(
    tuple(DIMS.items()), ("target", "ppi"), width=8, layers=1, heads=2, mlp_dim=16, dropout=0.0
)
KEY = jax.random.key(0)
MESH = make_mesh(1, devices=1)
DRAWS = 4000
PARAMS = {"model": init_params(MODEL, jax.random.key(2))}


def settings(**changes: object) -> ConfigDict:
    config = configs.default().loss
    config.update(changes)
    return config


def reference(
    params: dict, batch: Batch, data: DeviceData, objective: Objective, graph: Graph
) -> jax.Array:
    """Dense and in float64; the masks come from Python sets."""
    config, known = objective.config, known_positives(graph, ["train"])
    query = normalise(objective.bridged(params, on_device(batch), data, None))
    z = {t: project(MODEL, params["model"], t, x) for t, x in data.tables.items()}
    keys = {t: v / jnp.linalg.norm(v, axis=1, keepdims=True) for t, v in z.items()}
    scale = jnp.exp(params["log_scale"]) if config.learn_temperature else 1 / config.temperature
    losses, columns = [], {}
    for group in objective.groups:
        triple_type, facts = group.triple_type, known[group.triple_type]
        heads, own = batch.heads[:, group.columns].ravel(), batch.tails[:, group.columns].ravel()
        own_row = np.arange(batch.heads.size).reshape(batch.heads.shape)[:, group.columns].ravel()
        if config.negatives == "in_batch":
            same = [g.columns for g in objective.groups if g.triple_type.tail == triple_type.tail]
            candidates = np.concatenate([batch.tails[:, c].ravel() for c in same])
            numbers = np.arange(batch.heads.size).reshape(batch.heads.shape)
            itself = np.concatenate([numbers[:, c].ravel() for c in same]) == own_row[:, None]
        else:
            candidates = graph.train_nodes(triple_type.tail)
            itself = candidates == own[:, None]
        prior = np.zeros(COUNTS[triple_type.tail])
        if config.negatives == "all" and config.prior:
            weight = config.prior
            if config.learn_prior:
                weight = params["prior"][graph.triple_types.index(triple_type)]
            prior = weight * np.asarray(data.log_shares[str(triple_type)], np.float64)
        own_query = query[:, group.columns].reshape(len(own), -1)
        logits = own_query @ keys[triple_type.tail].T * scale + prior
        true = logits[np.arange(len(own)), own]
        counted = ~itself
        if config.mask == "known":
            sets = [set(facts.tails[facts.indptr[h] : facts.indptr[h + 1]].tolist()) for h in heads]
            counted = np.array([[t not in m for t in candidates.tolist()] for m in sets])
        if config.type == "sigmoid":
            true, logits = true + params["bias"], logits + params["bias"]
            false = (jax.nn.softplus(logits[:, candidates]) * counted).sum(1)
            losses.append(jax.nn.softplus(-true) + false)
            continue
        others = (jnp.exp(logits[:, candidates]) * counted).sum(1)
        losses.append(jnp.log(jnp.exp(true) + others) - true)
        if config.symmetric:
            found = columns.setdefault(triple_type.tail, ([], []))
            found[0].append((jnp.exp(logits[:, candidates]) * counted).sum(0))
            found[1].append(true)
    if config.symmetric:
        for (
            sums,
            own,
        ) in columns.values():  # candidates stand in the order of the rows sharded_batch
            true = jnp.concatenate(own)
            losses.append(jnp.log(jnp.exp(true) + sum(sums)) - true)
    return jnp.concatenate(losses).mean()


def on_device(batch: Batch) -> Batch:
    return jax.tree.map(jnp.asarray, batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"negatives": "in_batch"},
        {"negatives": "in_batch", "mask": "none"},
        {"negatives": "all"},
        {"negatives": "all", "mask": "none"},
        {"negatives": "all", "prior": 0.7},
        {"negatives": "all", "prior": 0.7, "implementation": "ring", "chunk": 16},
        {"negatives": "in_batch", "implementation": "ring", "chunk": 16},
        {"negatives": "in_batch", "symmetric": True},
        {"negatives": "in_batch", "symmetric": True, "mask": "none"},
        {"negatives": "in_batch", "symmetric": True, "implementation": "ring", "chunk": 16},
        {"negatives": "in_batch", "type": "sigmoid", "implementation": "ring", "chunk": 16},
        {"negatives": "all", "type": "sigmoid", "prior": 0.7},
    ],
    ids=str,
)
def test_loss_and_gradients_agree_with_the_dense_reference(graph, data, changes):
    batches = Batches(graph.pairs(["train"]), 48, 0.5, 0)
    objective = Objective(MODEL, batches.groups, graph.triple_types, settings(**changes), MESH)
    batch = batches(3)
    tails = [batch.tails[:, g.columns] for g in batches.groups]
    assert any(len(np.unique(t)) < t.size for t in tails), "duplicate tails must occur"
    run = jax.jit(jax.value_and_grad(lambda p: objective(p, on_device(batch), data, KEY)))
    params = PARAMS | init_logits(objective.config, graph.triple_types)
    value, grads = run(params)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        dense = jax.value_and_grad(lambda p: reference(p, batch, data, objective, graph))
        expected, slopes = jax.jit(dense)(wide)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, slopes)


def test_paired_negatives_are_training_nodes_and_never_known(graph, data):
    """With every possible negative drawn many times over, the loss is that of all candidates."""
    batches = Batches(graph.pairs(["train"]), 48, 0.5, 0)
    batch = on_device(batches(0))
    few = Objective(
        MODEL,
        batches.groups,
        graph.triple_types,
        settings(negatives="sampled", num_sampled=DRAWS),
        MESH,
    )
    run = jax.jit(lambda: (few(PARAMS, batch, data, KEY), few.bridged(PARAMS, batch, data, None)))
    value, query = run()
    query = np.asarray(normalise(query), np.float64)
    known, expected = known_positives(graph, ["train"]), []
    for group in batches.groups:
        x = data.tables[group.triple_type.tail]
        key = np.asarray(normalise(project(MODEL, PARAMS["model"], group.triple_type.tail, x)))
        own_query = query[:, group.columns].reshape(-1, query.shape[-1])
        weights = np.exp(own_query @ key.T / 0.1)
        columns = (batch.heads[:, group.columns], batch.tails[:, group.columns])
        heads, own = (np.asarray(c).ravel() for c in columns)
        true = weights[np.arange(len(own)), own]
        weights[known[group.triple_type].of(heads)] = 0  # a masked draw adds nothing
        nodes = graph.train_nodes(group.triple_type.tail)
        expected.append(np.log(true + DRAWS * weights[:, nodes].mean(axis=1)) - np.log(true))
    assert float(value) == pytest.approx(np.concatenate(expected).mean(), rel=3e-3)


def test_known_bits_say_what_the_index_says(graph):
    known = known_positives(graph, ["train"])
    for triple_type, index in known.items():
        count, heads = COUNTS[triple_type.tail], np.arange(COUNTS[triple_type.head], dtype=np.int32)
        bits = known_bits(index, count)
        dense = np.zeros((len(heads), count), bool)
        dense[index.of(heads)] = True
        tails = jnp.asarray([3, 0, count - 1, 3])
        np.testing.assert_array_equal(known_among(bits, jnp.asarray(heads), tails), dense[:, tails])
        own = jnp.asarray(np.random.default_rng(0).integers(0, count, (len(heads), 3)))
        pairs = known_pairs(bits, jnp.asarray(heads), own)
        np.testing.assert_array_equal(pairs, np.take_along_axis(dense, np.asarray(own), axis=1))


def test_log_popularity_is_a_smoothed_share(graph):
    known = known_positives(graph, ["train"])
    triple_type = next(k for k in known if k.head == "drug")
    counts = np.bincount(known[triple_type].tails, minlength=40)
    expected = np.log((counts + 1) / (counts + 1).sum())
    np.testing.assert_allclose(log_popularity(known[triple_type], 40), expected, rtol=1e-6)


def test_an_unknown_kind_of_negatives_names_the_nearest(graph):
    with pytest.raises(InputError, match="did you mean 'in_batch'"):
        Objective(MODEL, (), (), settings(negatives="inbatch"), MESH)


@pytest.fixture(scope="module")
def sharded_data(graph: Graph) -> DeviceData:
    """Tables and indexes for a batch that eight devices can share."""
    rng = np.random.default_rng(1)
    tables = {t: jnp.asarray(rng.normal(size=(COUNTS[t], DIMS[t])), jnp.float32) for t in COUNTS}
    return device_data(graph, tables, shards=8)


@pytest.mark.parametrize(
    ("negatives", "implementation", "counts", "more"),
    [
        ("in_batch", "ring", (1, 2, 4, 8), {}),
        ("in_batch", "all_gather", (2, 8), {}),
        ("all", "ring", (2, 8), {}),
        ("all", "all_gather", (4,), {}),
        ("in_batch", "ring", (4,), {"symmetric": True}),
        ("in_batch", "all_gather", (4,), {"symmetric": True}),
        ("in_batch", "ring", (4,), {"type": "sigmoid"}),
    ],
)
def test_any_number_of_devices_gives_the_same_value_and_gradients(
    graph, sharded_data, negatives, implementation, counts, more
):
    """Against the dense float64 reference; uneven groups, duplicate tails, learned logits."""
    batches = Batches(graph.pairs(["train"]), 80, 1.0, 0, shards=8)
    assert len({g.size for g in batches.groups}) > 1
    changes = {
        "negatives": negatives,
        "implementation": implementation,
        "chunk": 4,
        "learn_temperature": True,
        **more,
    }
    changes |= {"learn_prior": True, "prior": 0.5} if negatives == "all" else {}
    config, batch = settings(**changes), batches(1)
    params = PARAMS | init_logits(config, graph.triple_types)
    make = partial(Objective, MODEL, batches.groups, graph.triple_types, config)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        dense = jax.value_and_grad(lambda p: reference(p, batch, sharded_data, make(MESH), graph))
        expected = jax.jit(dense)(wide)
    for devices in counts:
        mesh = make_mesh(8, devices)
        sharded_batch = jax.device_put(batch, row_sharding(mesh))
        data, placed = jax.device_put((sharded_data, params), replicated(mesh))
        found = jax.jit(jax.value_and_grad(make(mesh)))(placed, sharded_batch, data, KEY)
        jax.tree.map(
            lambda a, b, n=devices: np.testing.assert_allclose(
                a, b, rtol=1e-4, atol=1e-6, err_msg=f"{n} devices"
            ),
            found,
            expected,
        )


def test_the_rings_memory_is_linear_in_the_batch():
    """From the compiled program's own analysis, at three sizes; gathered is quadratic."""
    mesh = make_mesh(8, 2)

    def memory(implementation: str, size: int) -> int:
        def logits(rows, keys, learned, fixed):
            return learned * (rows.query_ND @ keys.key_MD.T)

        def local(q, k, scale):
            rows, keys = Rows(q), Keys(k)
            contrast = Contrast(logits, Softmax, AXES)
            if implementation == "ring":
                return reduce_ring(contrast, rows, keys, scale, (), 128)[0]
            return reduce_all_gather(contrast, rows, keys, scale, ())[0]

        def total(q, k, scale):
            sharded = jax.shard_map(
                local, mesh=mesh, in_specs=(P(AXES), P(AXES), P()), out_specs=P(AXES)
            )
            return sharded(q, k, scale).sum()

        x = jax.ShapeDtypeStruct((size, 16), jnp.float32, sharding=row_sharding(mesh))
        scale = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
        compiled = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(x, x, scale).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ring = [memory("ring", n) for n in (2048, 4096, 8192)]
    gathered = [memory("all_gather", n) for n in (2048, 4096, 8192)]
    assert ring[1] < 2.2 * ring[0]
    assert ring[2] < 2.2 * ring[1]
    assert gathered[2] > 3.5 * gathered[1]
    assert ring[2] < gathered[2] / 10


@pytest.mark.parametrize("devices", [1, 2])
def test_embedding_a_shard_at_a_time_gives_the_same_gradients(graph, sharded_data, devices):
    batches = Batches(graph.pairs(["train"]), 80, 1.0, 0, shards=8)
    config, mesh = (
        settings(negatives="in_batch", implementation="ring", chunk=4),
        make_mesh(8, devices),
    )
    sharded_batch = jax.device_put(batches(1), row_sharding(mesh))
    data, placed = jax.device_put((sharded_data, PARAMS), replicated(mesh))
    found = []
    for grad_cache in (False, True):
        made = Objective(MODEL, batches.groups, graph.triple_types, config, mesh, grad_cache)
        found.append(jax.jit(jax.value_and_grad(made))(placed, sharded_batch, data, KEY))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *found)


def test_a_batch_cached_in_more_shards_needs_no_more_memory_for_activations(graph, data):
    """Four times the batch in four times the shards: the embedding's memory stays."""

    def memory(shards: int, grad_cache: bool) -> int:
        batches = Batches(graph.pairs(["train"]), 512 * shards, 1.0, 0, shards)
        config = settings(negatives="in_batch", implementation="ring", chunk=512)
        deep = Bridge(tuple(DIMS.items()), ("target", "ppi"), width=16, layers=4, heads=2,
                      mlp_dim=256, dropout=0.0)  # fmt: skip
        params = {"model": init_params(deep, KEY)}
        made = Objective(deep, batches.groups, graph.triple_types, config, MESH, grad_cache)
        compiled = jax.jit(jax.grad(made)).lower(params, on_device(batches(0)), data, KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(8, grad_cache=True) < memory(8, grad_cache=False) / 3
    assert memory(8, grad_cache=True) < 2.5 * memory(2, grad_cache=True)
