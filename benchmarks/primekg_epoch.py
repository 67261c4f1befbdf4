"""Training on a graph of PrimeKG's size: seconds per epoch, and where they go.

    # on a laptop, extrapolated from a few steps
    python -m benchmarks.primekg_epoch --steps 20
    # on an H200
    python -m benchmarks.primekg_epoch --epochs 10 --dtype bfloat16
    # a million rows per batch on one device
    python -m benchmarks.primekg_epoch --dtype bfloat16 --steps 3 \\
        --batch 1048576 --shards 256 --grad-cache --implementation ring

The graph has 85,466 nodes, 3,904,610 directed triples, and embeddings of 2560, 768 and 512
dimensions with random content. The model is the paper's, with in-batch negatives and known
positives masked. The loop is that of the training command: batches are prefetched in a thread, the
state is donated, and the metrics of a step are fetched after the next one has been dispatched.
Nothing is evaluated or saved.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import jax

from benchmarks import synthetic
from benchmarks.hardware import jax_peak_flops
from benchmarks.train_step import FLOPS
from benchmarks.training import make_training
from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.batches import Batches
from bridge_jax.distributed.mesh import make_mesh, replicated, shard_batch
from bridge_jax.distributed.placement import put_tables
from bridge_jax.training.device_data import device_data
from bridge_jax.training.prefetch import prefetch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    start = time.perf_counter()
    config = configs.default()
    config.model.dtype = args.dtype
    config.loss.implementation = args.implementation
    config.batch.grad_cache = args.grad_cache
    graph, tables = synthetic.primekg(), synthetic.tables()
    batches = Batches(graph.pairs(["train"]), args.batch, 1.0, 0, args.shards)
    num_steps = args.steps or round(args.epochs * batches.steps_per_epoch)
    mesh = make_mesh(args.shards)
    dims = [(name, dim) for name, (_, dim) in synthetic.NODES.items()]
    data = jax.device_put(device_data(graph, {}, args.shards), replicated(mesh))
    data = data._replace(tables=put_tables(tables, "replicated", mesh, args.dtype))
    state, update = make_training(config, graph, dims, batches, mesh, num_steps)
    key = jax.random.key(0)
    setup_seconds, start = _lap(start)
    with closing(prefetch(map(batches, range(num_steps + 1)))) as batch_iterator:
        state, metrics = update(state, shard_batch(mesh, next(batch_iterator)), data, key)
        first_loss = float(metrics["loss"])
        compile_seconds, start = _lap(start)
        wait_seconds = 0.0
        for _ in range(num_steps):
            wait_start = time.perf_counter()
            batch = next(batch_iterator)
            wait_seconds += time.perf_counter() - wait_start
            previous_metrics = metrics
            state, metrics = update(state, shard_batch(mesh, batch), data, key)
            float(previous_metrics["loss"])  # waits for the previous step, as the command does
        last_loss = float(metrics["loss"])
        seconds, _ = _lap(start)
    rate, peak = num_steps * batches.size / seconds, jax_peak_flops(args.dtype)
    memory = jax.devices()[0].memory_stats() or {}
    report = {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "dtype": args.dtype,
        "batch": batches.size,
        "steps": num_steps,
        "seconds": round(seconds, 2),
        "triples_per_second": round(rate, 1),
        "seconds_an_epoch": round(synthetic.DIRECTED_TRIPLES / rate, 1),
        "epochs_measured": round(num_steps / batches.steps_per_epoch, 3),
        "seconds_to_set_up": round(setup_seconds, 1),
        "seconds_to_compile": round(compile_seconds, 1),
        "seconds_waiting_for_batches": round(wait_seconds, 3),
        "gflops_peak": round(peak / 1e9),
        "share_of_peak": round(rate * FLOPS / peak / jax.device_count(), 3),
        "device_gb_in_use_at_most": round(memory.get("peak_bytes_in_use", 0) / 1e9, 2),
        "loss": [first_loss, last_loss],
    }
    print(json.dumps(report, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def _lap(start: float) -> tuple[float, float]:
    """Seconds since `start`, and the current time."""
    now = time.perf_counter()
    return now - start, now


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.primekg_epoch", __doc__)
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs to train; default: 1")
    parser.add_argument("--steps", type=int, default=0, help="steps to train, in place of --epochs")
    parser.add_argument("--batch", type=int, default=4096, help="rows per batch; default: 4096")
    parser.add_argument("--shards", type=int, default=8, help="equal parts of a batch; default: 8")
    parser.add_argument(
        "--dtype",
        default="float32",
        help="dtype of the computation and of the embedding tables; default: float32",
    )
    parser.add_argument(
        "--implementation",
        choices=("all_gather", "ring"),
        default="all_gather",
        help="implementation of the loss; default: all_gather",
    )
    parser.add_argument(
        "--grad-cache",
        action="store_true",
        help="embed one shard at a time, and again in the backward pass",
    )
    parser.add_argument("--json", metavar="FILE", help="file to write the numbers to")
    return parser


if __name__ == "__main__":
    cli.run(main)
