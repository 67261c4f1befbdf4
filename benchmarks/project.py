"""Compares a projection's throughput to that of its slower half, and measures its memory.

    python -m benchmarks.project --workdir runs/demo --source gene/protein --target disease

Three tasks are timed in alternating order over the same generated float16 embeddings:

- the whole job;
- reading and writing alone: the same bytes, checks, checksums and threads, without the model;
- the model alone: the compiled model on a block that is in memory already.

The printed ratio is the rate of the job over the rate of the slower half: the median of the ratios
of each turn. "Without overlap" is the rate of the two halves one after the other. --large N also
projects N vectors in a separate process and reports its peak memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bridge_jax import cli, predictor
from bridge_jax.data.dataset import encode_ids
from bridge_jax.data.files import write_json
from bridge_jax.data.manifest import NodeTable, file_name, shard_file
from bridge_jax.data.tfrecord import DTYPES, node_layout, shard_writer
from bridge_jax.formatting import text_table
from bridge_jax.projection.worker import BLOCKS_AHEAD, Projection, ProjectionOptions

SHARD_RECORDS = 65_536
BLOCK_ROWS = 4096  # rows generated at once
ID_BYTES = 10
JOB, COPY, MODEL = "the job", "reading and writing alone", "the model alone"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    dim = predictor.load(args.workdir).dim(args.source)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        library = Path(scratch) / "in"
        write_library(library, args.source, args.vectors, dim)
        options = ProjectionOptions(
            args.workdir, str(library), args.source, f"{scratch}/out",
            target=args.target, dtype="float16",
        )  # fmt: skip
        rates, processor_seconds = _measure(options, args.vectors, args.repeats)
        result: dict[str, Any] = {
            "vectors": args.vectors,
            "dim": dim,
            "rates": rates,
            "spent": processor_seconds,
        }
        result |= _report(args, rates, processor_seconds)
        if args.large:
            shutil.rmtree(library)
            result["large"] = _measure_large(args, dim, Path(scratch))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


def write_library(
    folder: Path, node_type: str, count: int, dim: int, shard_records: int = SHARD_RECORDS
) -> None:
    """Writes shards of random float16 embeddings, block by block, and their sidecar.

    Args:
      folder: Folder to write.
      node_type: Node type of the embeddings.
      count: Number of embeddings.
      dim: Dimension of the embeddings.
      shard_records: Embeddings per shard.
    """
    rng, shards = np.random.default_rng(0), []
    total = -(-count // shard_records)
    layout = node_layout(ID_BYTES, dim, "float16")
    block = rng.normal(size=(BLOCK_ROWS, dim)).astype(np.float16)
    for k in range(total):
        file = shard_file("nodes", node_type, k, total)
        rows = min(shard_records, count - k * shard_records)
        with shard_writer(folder, file, layout) as shard:
            for start in range(0, rows, BLOCK_ROWS):
                n, first = min(BLOCK_ROWS, rows - start), k * shard_records + start
                ids = encode_ids([f"{i:010d}" for i in range(first, first + n)], ID_BYTES)
                shard.append({"id": ids, "embedding": np.roll(block[:n], k + start, axis=1)})
        shards.append(shard.shard(file))
    table = NodeTable(node_type, dim, "float16", count, ID_BYTES, tuple(shards))
    write_json(folder / f"nodes/{file_name(node_type)}.json", asdict(table))


class _Copy(Projection):
    """A projection without its model: reads and checks everything, and writes as many bytes."""

    @cached_property
    def compute(self) -> Callable[[np.ndarray], Any]:
        """Maps all blocks to the same random vectors."""
        shape = (self.block_rows, self._width)
        block = np.random.default_rng(0).normal(size=shape).astype(DTYPES[self._options.dtype])
        return lambda x: block


def _measure(
    options: ProjectionOptions, count: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Returns the vectors per second and the processor seconds of each task and turn."""
    tasks: dict[str, Callable[[], Callable[[], None]]] = {
        JOB: lambda: _prepare_job(Projection, options),
        COPY: lambda: _prepare_job(_Copy, options),
        MODEL: lambda: _prepare_model(options),
    }
    for prepare in tasks.values():  # compile, and fill the file cache
        prepare()()
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    processor_seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for i in range(repeats):
        for name in sorted(tasks, reverse=bool(i % 2)):
            run = tasks[name]()
            start, processor_start = time.perf_counter(), time.process_time()
            run()
            rates[name].append(count / (time.perf_counter() - start))
            processor_seconds[name].append(time.process_time() - processor_start)
    return rates, processor_seconds


def _report(
    args: argparse.Namespace,
    rates: dict[str, list[float]],
    processor_seconds: dict[str, list[float]],
) -> dict[str, Any]:
    """Prints the rates; returns the slower half and the ratio of the job to it."""
    median = {name: statistics.median(r) for name, r in rates.items()}
    slower = min((COPY, MODEL), key=lambda name: median[name])
    ratio = statistics.median(
        job / half for job, half in zip(rates[JOB], rates[slower], strict=True)
    )
    without_overlap = 1 / sum(1 / median[name] for name in (COPY, MODEL))
    task = "projected" if args.target is None else f"bridged to {args.target}"
    rows = [
        [name, round(rate), statistics.median(processor_seconds[name]) / args.vectors * 1e6]
        for name, rate in median.items()
    ]
    print(text_table(rows, (f"{args.source} {task}", "vectors/s", "processor µs/vector")))
    print(
        f"\nthe job runs at {ratio:.0%} of {slower}; "
        f"without overlap: {without_overlap:,.0f} vectors/s"
    )
    devices = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    print(f"{devices}, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}")
    return {"slower": slower, "ratio": ratio}


def _prepare_job(cls: type[Projection], options: ProjectionOptions) -> Callable[[], None]:
    """Opens a projection into an empty folder; returns the function to time."""
    shutil.rmtree(options.output, ignore_errors=True)
    projection = cls(options)

    def run() -> None:
        projection.run(range(projection.journal.num_shards))
        projection.write_sidecar()

    return run


def _prepare_model(options: ProjectionOptions) -> Callable[[], None]:
    """Reads one block; returns a function that computes it as often as the job has blocks."""
    shutil.rmtree(options.output, ignore_errors=True)
    projection = Projection(options)
    x = next(projection.source.blocks(0, projection.block_rows)).x
    num_blocks = -(-projection.source.num_rows // projection.block_rows)

    def run() -> None:
        waiting: list[jax.Array] = []
        for _ in range(num_blocks):
            waiting.append(projection.compute(x))
            if len(waiting) > BLOCKS_AHEAD:
                waiting.pop(0).block_until_ready()
        jax.block_until_ready(waiting)

    return run


def _measure_large(args: argparse.Namespace, dim: int, scratch: Path) -> dict[str, Any]:
    """Runs plain projections, which write the most per second, in a separate process."""
    library = scratch / "large"
    write_library(library, args.source, args.large, dim)
    size = sum(p.stat().st_size for p in library.glob("nodes/*.tfrecord"))
    command = [sys.executable, "-m", "bridge_jax.project", "--workdir", args.workdir]
    command += ["--input", str(library), "--source", args.source, "--dtype", "float16"]
    start = time.perf_counter()
    subprocess.run([*command, "--output", str(scratch / "out2")], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
    print(
        f"\n{args.large:,} vectors ({size / 1e9:.1f} GB) projected in {seconds:.0f} s, including "
        f"the start, with a peak of {peak:.2f} GiB"
    )
    return {"vectors": args.large, "bytes": size, "seconds": seconds, "peak_gib": peak}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.project", __doc__)
    parser.add_argument("--workdir", required=True, help="trained run, e.g. runs/demo")
    parser.add_argument("--source", required=True, help="node type, e.g. gene/protein")
    parser.add_argument("--target", help="node type to bridge to; default: none, plain projections")
    parser.add_argument(
        "--vectors", type=int, default=262_144, help="number of vectors; default: 262,144"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each task; default: 5")
    parser.add_argument(
        "--large", type=int, metavar="N", help="also measure the memory of a job of N vectors"
    )
    parser.add_argument(
        "--folder", help="folder for temporary files; default: the system's temporary folder"
    )
    parser.add_argument("--json", help="JSON file to write; default: none")
    return parser


if __name__ == "__main__":
    cli.run(main)
