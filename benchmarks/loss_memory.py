"""Memory of the in-batch loss and its gradients, by implementation and batch size.

    python -m benchmarks.loss_memory --devices 8 --json loss_memory.json

Nothing is executed: the numbers are the temporary bytes per device that XLA reports for the
compiled program. *dense* computes all logits on one device; *all_gather* and *ring* are the values
of `loss.implementation` on several devices.
"""

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bridge_jax import cli
from bridge_jax.formatting import text_table

WIDTH, CHUNK = 768, 1024
SIZES = [4096 * 4**i for i in range(5)]  # 4k to 1M
IMPLEMENTATIONS = ("dense", "all_gather", "ring")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    # Read by JAX when it is first imported, in `megabytes`.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    rows = [
        [size, *(megabytes(name, size, args.devices) for name in IMPLEMENTATIONS)]
        for size in args.sizes
    ]
    print(
        f"temporary MB per device, width {WIDTH}, float32; dense on 1 device, the others on "
        f"{args.devices}"
    )
    print(text_table(rows, ("rows", *IMPLEMENTATIONS)))
    if args.json:
        report = {"devices": args.devices, "width": WIDTH, "chunk": CHUNK, "megabytes": rows}
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def megabytes(implementation: str, size: int, num_devices: int) -> int:
    """Compiles the gradient of the loss and returns its temporary memory per device in MB.

    Args:
      implementation: One of `IMPLEMENTATIONS`.
      size: Number of rows of the batch.
      num_devices: Number of devices that share the batch; `dense` uses one.
    """
    from typing import NamedTuple

    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    from bridge_jax.distributed.mesh import AXES, make_mesh, row_sharding
    from bridge_jax.training import contrastive_loss as loss

    class Rows(NamedTuple):
        query_ND: jax.Array
        node_N: jax.Array

    class Keys(NamedTuple):
        key_MD: jax.Array
        node_M: jax.Array

    def logits(rows: Rows, keys: Keys, scale: jax.Array, fixed: tuple[()]) -> jax.Array:
        del fixed
        block_NM = scale * rows.query_ND @ keys.key_MD.T
        return jnp.where(rows.node_N[:, None] == keys.node_M, loss.MASKED, block_NM)

    def local_losses(q: jax.Array, k: jax.Array, node: jax.Array, scale: jax.Array) -> jax.Array:
        contrast = loss.Contrast(logits, loss.Softmax, AXES)
        if implementation == "ring":
            reduce = partial(loss.reduce_ring, chunk=min(CHUNK, len(q)))
        else:
            reduce = loss.reduce_all_gather
        lse, _ = reduce(contrast, Rows(q, node), Keys(k, node), scale, ())
        return loss.info_nce(scale * (q * k).sum(1), lse)

    mesh = make_mesh(num_devices, 1 if implementation == "dense" else num_devices)

    def mean_loss(q: jax.Array, k: jax.Array, scale: jax.Array, node: jax.Array) -> jax.Array:
        specs = (P(AXES), P(AXES), P(AXES), P())
        losses = jax.shard_map(local_losses, mesh=mesh, in_specs=specs, out_specs=P(AXES))
        return losses(q, k, node, scale).mean()

    sharding = row_sharding(mesh)
    x = jax.ShapeDtypeStruct((size, WIDTH), jnp.float32, sharding=sharding)
    node = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=sharding)
    gradient = jax.jit(jax.grad(mean_loss, argnums=(0, 1, 2)))
    compiled = gradient.lower(x, x, jnp.float32(1.0), node).compile()
    return round(compiled.memory_analysis().temp_size_in_bytes / 1e6)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.loss_memory", __doc__)
    parser.add_argument(
        "--devices", type=int, default=8, help="number of virtual devices; default: 8"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=SIZES,
        metavar="ROWS",
        help=f"batch sizes; default: {' '.join(map(str, SIZES))}",
    )
    parser.add_argument("--json", metavar="FILE", help="file to write the numbers to")
    return parser


if __name__ == "__main__":
    cli.run(main)
