"""Weak scaling: what each device must compute, hold and send as devices are added.

    python -m benchmarks.scaling --json scaling.json

Each device keeps the same number of rows, so the batch, and with it the number of negatives, grows
with the devices. For 1 to 256 simulated devices the training step is compiled and nothing is run:
floating-point operations and memory come from XLA's own analysis, bytes sent from the collectives
in the compiled program (all but those inside a loop count once; inside the ring's loop, once a
device). For 1 to 8 virtual devices of this machine the step is also timed; they share its cores,
so the time a row is what can be compared, not the time a step.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bridge_jax import cli

SIMULATED, TIMED = (1, 2, 4, 8, 16, 32, 64, 128, 256), (1, 2, 4, 8)
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f16": 2, "s64": 8}
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.devices:  # a process of its own: the number of devices is fixed at the start
        print(json.dumps(_measure(args.devices, args.form, args.rows, args.devices in TIMED)))
        return 0
    found = []
    for form in ("all_gather", "ring"):
        for devices in SIMULATED:
            command = [sys.executable, "-m", "benchmarks.scaling", "--devices", str(devices)]
            command += ["--form", form, "--rows", str(args.rows)]
            flags = f"--xla_force_host_platform_device_count={devices}"
            env = os.environ | {"XLA_FLAGS": flags}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    fields = ("form", "devices", "batch", "gflop", "temporary_mb", "sent_mb", "us_a_row")
    rows = [["–" if f[name] is None else f[name] for name in fields] for f in found]
    header = ("form", "devices", "batch", "GFLOP a device", "temp. MB", "sent MB", "µs a row")
    print(cli.table(rows, header))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))
    return 0


def _measure(devices: int, form: str, rows: int, timed: bool) -> dict[str, Any]:
    import jax

    from benchmarks import synthetic
    from bridge_jax import config as configs
    from bridge_jax.data.batches import Batches
    from bridge_jax.distributed.mesh import make_mesh, replicated, shard_batch
    from bridge_jax.models.bridge import init_params, make_model
    from bridge_jax.training.device_data import device_data
    from bridge_jax.training.objective import Objective
    from bridge_jax.training.optimizer import make_optimizer
    from bridge_jax.training.train_step import init_state, train_step

    graph = synthetic.primekg(0.02)
    batches = Batches(graph.pairs(["train"]), rows * devices, 0.5, 0, devices)
    config = configs.default()
    config.model.update({"width": 64, "layers": 2, "heads": 4, "mlp_dim": 128})
    config.loss.update({"negatives": "in_batch", "implementation": form, "mask": "none", "chunk": 256})
    mesh = make_mesh(devices)
    dims = [(name, 64) for name in synthetic.NODES]
    model = make_model(config.model, dims, graph.relations)
    placed = {n: jax.numpy.ones((c, 64)) for n, (c, _) in synthetic.NODES.items()}
    data = jax.device_put(device_data(graph, placed), replicated(mesh))
    objective = Objective(model, batches.groups, graph.triple_types, config.loss, mesh)
    optimizer = make_optimizer(config.optimizer, 100)
    state = init_state(lambda k: {"model": init_params(model, k)}, optimizer, 0, replicated(mesh))
    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer), donate_argnums=0
    )
    key = jax.random.key(0)
    compiled = update.lower(state, shard_batch(mesh, batches(0)), data, key).compile()
    cost, seconds = compiled.cost_analysis(), None
    if timed:
        times = []
        for step in range(8):
            began = time.perf_counter()
            state, metrics = compiled(state, shard_batch(mesh, batches(step)), data, key)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - began)
        seconds = min(times)
    return {
        "implementation": form,
        "devices": devices,
        "batch": batches.size,
        "gflop": cost["flops"] / 1e9,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "sent_mb": _sent(compiled.as_text(), devices) / 1e6,
        "us_a_row": seconds and 1e6 * seconds / batches.size,
    }


def _sent(program: str, devices: int) -> float:
    """Bytes that a device sends in a step: a gather its part to each other, a ring its blocks."""
    total, looped = 0.0, False
    for line in program.splitlines():
        if line.startswith(("%", "ENTRY")):  # a computation begins; those of loops carry a ring
            looped = not line.startswith("ENTRY")
        if not (match := COLLECTIVE.search(line)):
            continue
        shapes, kind = match.groups()
        size = sum(
            BYTES[dtype] * _product(dims)
            for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
            if dtype in BYTES
        )
        others = (devices - 1) / devices
        share = {"all-gather": others, "all-reduce": 2 * others, "reduce-scatter": devices - 1}
        turns = devices if looped and kind == "collective-permute" else 1
        total += turns * size * share.get(kind, 1.0)
    return total


def _product(dims: str) -> int:
    count = 1
    for d in filter(None, dims.split(",")):
        count *= int(d)
    return count


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.scaling", __doc__)
    parser.add_argument("--rows", type=int, default=512, help="of each device; default: 512")
    parser.add_argument("--devices", type=int, help="measure this number alone")
    parser.add_argument("--form", choices=("all_gather", "ring"), default="all_gather")
    parser.add_argument("--json", help="where to write the figures")
    return parser


if __name__ == "__main__":
    cli.run(main)
