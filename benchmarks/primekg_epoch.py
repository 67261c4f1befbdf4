"""Training on a graph of PrimeKG's true size: seconds an epoch, and where they go.

    python -m benchmarks.primekg_epoch --steps 20                      # a laptop: extrapolated
    python -m benchmarks.primekg_epoch --epochs 10 --dtype bfloat16    # an H200: measured
    python -m benchmarks.primekg_epoch --dtype bfloat16 --steps 3 \\
        --batch 1048576 --shards 256 --cached --form ring              # a million rows, one device

85,466 nodes, 3,904,610 directed triples, embeddings of 2560, 768 and 512 values, random content;
the paper's model, in-batch negatives, known positives masked. The loop is that of the training
command: batches made ahead in a thread, donated state, metrics of a step fetched after the next
one was started. Nothing is evaluated or saved.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import jax

from benchmarks import synthetic
from benchmarks.hardware import jax_peak
from benchmarks.train_step import FLOPS
from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.batches import Batches
from bridge_jax.distributed.mesh import make_mesh, replicated, shard_batch
from bridge_jax.distributed.placement import put_tables
from bridge_jax.models.bridge import init_params, make_model
from bridge_jax.training.device_data import device_data
from bridge_jax.training.objective import Objective
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.prefetch import prefetch
from bridge_jax.training.train_step import init_state, train_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    began = time.perf_counter()
    config = configs.default()
    config.model.dtype = args.dtype
    config.loss.implementation = args.form
    graph, tables = synthetic.primekg(), synthetic.tables()
    batches = Batches(graph.pairs(["train"]), args.batch, 1.0, 0, args.shards)
    steps = args.steps or round(args.epochs * batches.per_epoch)
    mesh = make_mesh(args.shards)
    dims = [(name, dim) for name, (_, dim) in synthetic.NODES.items()]
    model = make_model(config.model, dims, graph.relations)
    data = jax.device_put(device_data(graph, {}, args.shards), replicated(mesh))
    data = data._replace(tables=put_tables(tables, "replicated", mesh, args.dtype))
    objective = Objective(model, batches.groups, graph.triple_types, config.loss, mesh, args.cached)
    optimizer = make_optimizer(config.optimizer, steps)
    state = init_state(lambda k: {"model": init_params(model, k)}, optimizer, 0, replicated(mesh))
    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer), donate_argnums=0
    )
    key = jax.random.key(0)
    ready = time.perf_counter() - began
    with closing(prefetch(map(batches, range(steps + 1)))) as following:
        state, metrics = update(state, shard_batch(mesh, next(following)), data, key)
        first = float(metrics["loss"])
        compiled, began = time.perf_counter() - began - ready, time.perf_counter()
        waiting = 0.0
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(following)
            waiting += time.perf_counter() - asked
            before = metrics
            state, metrics = update(state, shard_batch(mesh, batch), data, key)
            last = float(before["loss"])
        last = float(metrics["loss"])
        seconds = time.perf_counter() - began
    rate, peak = steps * batches.size / seconds, jax_peak(args.dtype)
    memory = jax.devices()[0].memory_stats() or {}
    found = {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "dtype": args.dtype,
        "batch": batches.size,
        "steps": steps,
        "seconds": round(seconds, 2),
        "triples_per_second": round(rate, 1),
        "seconds_an_epoch": round(synthetic.DIRECTED_TRIPLES / rate, 1),
        "epochs_measured": round(steps / batches.per_epoch, 3),
        "seconds_to_set_up": round(ready, 1),
        "seconds_to_compile": round(compiled, 1),
        "seconds_waiting_for_batches": round(waiting, 3),
        "gflops_peak": round(peak / 1e9),
        "share_of_peak": round(rate * FLOPS / peak / jax.device_count(), 3),
        "device_gb_in_use_at_most": round(memory.get("peak_bytes_in_use", 0) / 1e9, 2),
        "loss": [first, last],
    }
    print(json.dumps(found, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.primekg_epoch", __doc__)
    parser.add_argument("--epochs", type=float, default=1.0, help="default: 1")
    parser.add_argument("--steps", type=int, default=0, help="in place of --epochs")
    parser.add_argument("--batch", type=int, default=4096, help="default: 4096")
    parser.add_argument("--shards", type=int, default=8, help="of a batch; default: 8")
    parser.add_argument("--dtype", default="float32", help="of the computation and the tables")
    parser.add_argument("--form", choices=("all_gather", "ring"), default="all_gather")
    parser.add_argument("--cached", action="store_true", help="embed a shard at a time")
    parser.add_argument("--json", help="where to write the figures")
    return parser


if __name__ == "__main__":
    cli.run(main)
