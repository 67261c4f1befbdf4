"""Memory of the in-batch loss and its gradients, from the compiled program's own analysis.

    python -m benchmarks.loss_memory --devices 8 --json loss_memory.json

Nothing is run: XLA says how many temporary bytes each device of the compiled program needs, for
the dense form on one device, for all keys gathered on each device, and for the ring.
"""

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bridge_jax import cli

WIDTH, CHUNK = 768, 1024
SIZES = [4096 * 4**i for i in range(5)]  # 4k to 1M


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    row_sharding: list[list[object]] = []
    for size in SIZES:
        found = [_megabytes(form, size, args.devices) for form in ("dense", "all_gather", "ring")]
        row_sharding.append([size, *found])
    print(f"temporary MB a device, width {WIDTH}, float32; dense: 1 device, else {args.devices}")
    print(cli.table(row_sharding, ("rows", "dense", "all_gather", "ring")))
    if args.json:
        about = {"devices": args.devices, "width": WIDTH, "chunk": CHUNK, "megabytes": row_sharding}
        Path(args.json).write_text(json.dumps(about, indent=1))
    return 0


def _megabytes(form: str, size: int, devices: int) -> int:
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    from bridge_jax.distributed.mesh import AXES, make_mesh, row_sharding
    from bridge_jax.training import contrastive_loss as loss

    def logits(mine: loss.Tree, keys: loss.Tree, learned: loss.Tree, _: loss.Tree) -> jax.Array:
        block = learned["scale"] * mine["query"] @ keys["key"].T
        return jnp.where(mine["node"][:, None] == keys["node"], loss.MASKED, block)

    def local(q: jax.Array, k: jax.Array, node: jax.Array, scale: jax.Array) -> jax.Array:
        contrast = loss.Contrast(logits, loss.SOFTMAX, AXES)
        mine, keys = {"query": q, "node": node}, {"key": k, "node": node}
        reduce = partial(loss.ring, chunk=min(CHUNK, len(q))) if form == "ring" else loss.gathered
        found, _ = reduce(contrast, mine, keys, {"scale": scale}, {})
        return loss.info_nce(scale * (q * k).sum(1), found)

    mesh = make_mesh(devices, 1 if form == "dense" else devices)

    def total(q: jax.Array, k: jax.Array, scale: jax.Array, node: jax.Array) -> jax.Array:
        specs = (P(AXES), P(AXES), P(AXES), P())
        spread = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(AXES))
        return spread(q, k, node, scale).mean()

    place = row_sharding(mesh)
    x = jax.ShapeDtypeStruct((size, WIDTH), jnp.float32, sharding=place)
    node = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=place)
    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    compiled = gradient.lower(x, x, jnp.float32(1.0), node).compile()
    return round(compiled.memory_analysis().temp_size_in_bytes / 1e6)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.loss_memory", __doc__)
    parser.add_argument("--devices", type=int, default=8, help="virtual ones; default: 8")
    parser.add_argument("--json", help="where to write the figures")
    return parser


if __name__ == "__main__":
    cli.run(main)
