"""Weak scaling: work, memory and traffic of each device as devices are added.

    python -m benchmarks.scaling --json scaling.json

Each device keeps the same number of rows, so the batch, and with it the number of negatives, grows
with the devices. For 1 to 256 virtual devices the training step is compiled. XLA's analysis of the
program gives floating-point operations and temporary memory; the collectives in the program give
the bytes sent. A collective counts once, or once per device inside the loop of the ring. For 1 to 8
virtual devices the step is also timed. They share the cores of this machine, so compare the time
per row, not the time per step.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.formatting import text_table

NUM_DEVICES, TIMED = (1, 2, 4, 8, 16, 32, 64, 128, 256), (1, 2, 4, 8)
IMPLEMENTATIONS = ("all_gather", "ring")
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f16": 2, "s64": 8}
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.devices:
        print(json.dumps(measure(args.devices, args.implementation, args.rows)))
        return 0
    # One process each: the number of devices is fixed when JAX starts.
    results = [
        _measure_in_process(num_devices, implementation, args.rows)
        for implementation in IMPLEMENTATIONS
        for num_devices in NUM_DEVICES
        if num_devices <= args.max_devices
    ]
    columns = {
        "implementation": "implementation",
        "devices": "devices",
        "batch": "batch",
        "gflop": "GFLOP per device",
        "temporary_mb": "temporary MB",
        "sent_mb": "sent MB",
        "us_a_row": "µs per row",
    }
    rows = [["–" if r[name] is None else r[name] for name in columns] for r in results]
    print(text_table(rows, tuple(columns.values())))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    return 0


def measure(num_devices: int, implementation: str, rows_per_device: int) -> dict[str, Any]:
    """Compiles the training step on virtual devices, and times it if they are at most 8.

    Args:
      num_devices: Number of virtual devices; `XLA_FLAGS` must provide them.
      implementation: Value of `loss.implementation`.
      rows_per_device: Rows of the batch per device.

    Returns:
      Operations, memory and traffic per device, and the time per row (None if not timed).
    """
    import jax

    from benchmarks import synthetic
    from benchmarks.training import make_training
    from bridge_jax import config as configs
    from bridge_jax.data.batches import Batches
    from bridge_jax.distributed.mesh import make_mesh, replicated, shard_batch
    from bridge_jax.training.device_data import device_data

    graph = synthetic.primekg(0.02)
    batches = Batches(graph.pairs(["train"]), rows_per_device * num_devices, 0.5, 0, num_devices)
    config = configs.default()
    config.model.update({"width": 64, "layers": 2, "heads": 4, "mlp_dim": 128})
    config.loss.update(
        {"negatives": "in_batch", "implementation": implementation, "mask": "none", "chunk": 256}
    )
    mesh = make_mesh(num_devices)
    dims = [(name, 64) for name in synthetic.NODES]
    tables = {name: jax.numpy.ones((count, 64)) for name, (count, _) in synthetic.NODES.items()}
    data = jax.device_put(device_data(graph, tables), replicated(mesh))
    state, update = make_training(config, graph, dims, batches, mesh, num_steps=100)
    key = jax.random.key(0)
    compiled = update.lower(state, shard_batch(mesh, batches(0)), data, key).compile()
    seconds = None
    if num_devices in TIMED:
        times = []
        for step in range(8):
            start = time.perf_counter()
            state, metrics = compiled(state, shard_batch(mesh, batches(step)), data, key)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - start)
        seconds = min(times)
    return {
        "implementation": implementation,
        "devices": num_devices,
        "batch": batches.size,
        "gflop": compiled.cost_analysis()["flops"] / 1e9,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "sent_mb": bytes_sent(compiled.as_text(), num_devices) / 1e6,
        "us_a_row": seconds and 1e6 * seconds / batches.size,
    }


def bytes_sent(program: str, num_devices: int) -> float:
    """Sums the bytes that a device sends in one step, from the text of a compiled program.

    Args:
      program: HLO text of the program.
      num_devices: Number of devices that run it.
    """
    share_sent = (num_devices - 1) / num_devices
    traffic = {
        "all-gather": share_sent,
        "all-reduce": 2 * share_sent,
        "reduce-scatter": num_devices - 1,
    }
    total, in_loop = 0.0, False
    for line in program.splitlines():
        # The start of a computation; those besides the entry are bodies of loops.
        if line.startswith(("%", "ENTRY")):
            in_loop = not line.startswith("ENTRY")
        if not (match := COLLECTIVE.search(line)):
            continue
        shapes, collective = match.groups()
        size = sum(
            BYTES[dtype] * math.prod(int(d) for d in dims.split(",") if d)
            for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
            if dtype in BYTES
        )
        repeats = num_devices if in_loop and collective == "collective-permute" else 1
        total += repeats * size * traffic.get(collective, 1.0)
    return total


def _measure_in_process(num_devices: int, implementation: str, rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--devices", str(num_devices)]
    command += ["--implementation", implementation, "--rows", str(rows)]
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    env = os.environ | {"XLA_FLAGS": flags}
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(process.stdout.splitlines()[-1]))


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.scaling", __doc__)
    parser.add_argument("--rows", type=int, default=512, help="rows per device; default: 512")
    parser.add_argument(
        "--max-devices", type=int, default=256, help="largest number of devices; default: 256"
    )
    parser.add_argument(
        "--devices", type=int, help="measure only this number of devices, in this process"
    )
    parser.add_argument(
        "--implementation",
        choices=IMPLEMENTATIONS,
        default="all_gather",
        help="implementation of the loss, with --devices; default: all_gather",
    )
    parser.add_argument("--json", metavar="FILE", help="file to write the numbers to")
    return parser


if __name__ == "__main__":
    cli.run(main)
