"""The losses over several devices against a dense reference; runs in a test and in two processes.

python -m tests.helpers.loss_cases HOST:PORT PROCESSES PROCESS
"""

import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bridge_jax.distributed.mesh import AXES, join_processes, make_mesh, replicated, row_sharding
from bridge_jax.training.contrastive_loss import (
    MASKED,
    Contrast,
    Sigmoid,
    Softmax,
    reduce_all_gather,
    reduce_ring,
)

ROWS, WIDTH, NODES = 64, 6, 23
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
CASES = [("softmax", False), ("softmax", True), ("sigmoid", False)]


def problem(dtype: str) -> dict[str, np.ndarray]:
    """Unit vectors, duplicate tails, and heads with few and with many known tails."""
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(ROWS, WIDTH)) for _ in range(2))
    q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
    tails = rng.integers(0, NODES, ROWS)
    k = k[tails]  # copies of a tail have one vector
    masked = rng.random((ROWS, NODES)) < np.linspace(0, 0.6, ROWS)[:, None]
    masked[np.arange(ROWS), tails] = True
    return {
        "query": q.astype(dtype),
        "key": k.astype(dtype),
        "known": masked,
        "node": tails.astype(np.int32),
    }


def dense(loss_type: str, symmetric: bool, p: dict[str, np.ndarray], q, k, scale) -> jax.Array:
    """Every logit at once."""
    logits = scale * q @ k.T
    own, counted = jnp.diagonal(logits), ~p["known"][:, p["node"]]
    if loss_type == "sigmoid":
        return (jax.nn.softplus(-own) + (jax.nn.softplus(logits) * counted).sum(1)).mean()
    total = jnp.exp(logits) * counted
    losses = jnp.log(jnp.exp(own) + total.sum(1)) - own
    if symmetric:
        losses = (losses + jnp.log(jnp.exp(own) + total.sum(0)) - own) / 2
    return losses.mean()


def check(mesh: Mesh, dtype: str) -> None:
    """Value and gradients of each loss, gathered and around the ring, on a mesh."""
    p = problem(dtype)
    everywhere, cut = replicated(mesh), row_sharding(mesh)
    arrays = {
        n: jax.make_array_from_callback(v.shape, cut, lambda i, v=v: v[i]) for n, v in p.items()
    }
    scale = jax.device_put(jnp.asarray(7.3, dtype), everywhere)
    for loss_type, symmetric in CASES:
        reference = jax.value_and_grad(partial(dense, loss_type, symmetric, p), argnums=(0, 1, 2))
        expected = reference(p["query"].astype("float64"), p["key"].astype("float64"), 7.3)
        for implementation in ("all_gather", "ring"):
            total = partial(sharded_loss, mesh, implementation, loss_type, symmetric)
            value, grads = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(
                arrays["query"], arrays["key"], scale, arrays["known"], arrays["node"]
            )
            where = f"{implementation} {loss_type} {symmetric=} {dtype} on {mesh.size}"
            compare(value, expected[0], dtype, where)
            for found, wanted in zip(grads, expected[1], strict=True):
                compare(found, wanted, dtype, where)


class Rows(NamedTuple):
    query_ND: jax.Array
    known_NT: jax.Array


class Keys(NamedTuple):
    key_MD: jax.Array
    node_M: jax.Array


def sharded_loss(
    mesh: Mesh, implementation: str, loss_type: str, symmetric: bool, q, k, scale, known, node
) -> jax.Array:
    """Mean loss over rows that are sharded over several devices."""
    reduction = Softmax if loss_type == "softmax" else Sigmoid

    def logits(rows, keys, scale, fixed):
        block = scale * rows.query_ND @ keys.key_MD.T
        return jnp.where(rows.known_NT[:, keys.node_M], MASKED, block)

    def local(q, k, scale, known, node):
        contrast = Contrast(logits, reduction, AXES, symmetric)
        rows, keys = Rows(q, known), Keys(k, node)
        own = scale * (q * k).sum(1)
        if implementation == "ring":
            of_rows, of_keys = reduce_ring(contrast, rows, keys, scale, (), 4)
        else:
            of_rows, of_keys = reduce_all_gather(contrast, rows, keys, scale, ())
        losses = reduction.row_loss(own, of_rows)
        return (losses + reduction.row_loss(own, of_keys)) / 2 if symmetric else losses

    specs = (P(AXES), P(AXES), P(), P(AXES), P(AXES))
    placed = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(AXES))
    return placed(q, k, scale, known, node).mean()


def compare(found: jax.Array, wanted: jax.Array, dtype: str, where: str) -> None:
    """Equal to the dtype's tolerance, in units of the largest entry."""
    wanted = np.asarray(wanted)
    for part in found.addressable_shards:
        np.testing.assert_allclose(
            part.data, wanted[part.index], rtol=0,
            atol=TOLERANCE[dtype] * np.abs(wanted).max(), err_msg=where,
        )  # fmt: skip


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    join_processes(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    assert jax.device_count() > jax.local_device_count()
    for chosen in TOLERANCE:
        check(make_mesh(8), chosen)
