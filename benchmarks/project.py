"""How much a projection costs beyond its slower half, and how much memory it takes.

    python -m benchmarks.project --workdir runs/demo --source gene/protein --target disease

Three things are timed in turn, several times, over the same generated vectors on disk (float16, of
the encoder's dimension): the whole job; reading and writing the same bytes alone, with every check
and checksum, by the same threads; and the compiled model alone, on a block that is in memory
already. The ratio is the job's rate over that of the slower half, pair by pair, in the median; the
rate of both halves one after the other is what a job without overlap would have. With --large N one
more job, of N plain projections, runs in a process of its own, for its peak memory.
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

from bridge_jax import cli
from bridge_jax import predictor as trained
from bridge_jax.data.dataset import NodeTable, encode_ids, file_name, shard_file
from bridge_jax.data.files import write_json
from bridge_jax.data.tfrecord import DTYPES, node_layout, shard_writer
from bridge_jax.projection.worker import DEPTH, Options, Projection

SHARD = 65_536
ROWS = 4096  # generated at a time
JOB, COPY, MODEL = "the job", "reading and writing alone", "the model alone"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    bridge = trained.load(args.workdir)
    dim = bridge.dim(args.source)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        generate(Path(scratch) / "in", args.source, args.vectors, dim)
        options = Options(
            args.workdir, f"{scratch}/in", args.source, f"{scratch}/out",
            target=args.target, dtype="float16",
        )  # fmt: skip
        rates: dict[str, list[float]] = {}
        spent: dict[str, list[float]] = {}
        timed: dict[str, Callable[[], Callable[[], None]]] = {
            JOB: lambda: _work(Projection, options),
            COPY: lambda: _work(_Copy, options),
            MODEL: lambda: _model(options),
        }
        for prepare in timed.values():  # compile, and fill the file cache
            prepare()()
        for i in range(args.repeats):
            for name in sorted(timed, reverse=bool(i % 2)):
                work = timed[name]()
                clock, processor = time.perf_counter(), time.process_time()
                work()
                rates.setdefault(name, []).append(args.vectors / (time.perf_counter() - clock))
                spent.setdefault(name, []).append(time.process_time() - processor)
        result: dict[str, Any] = {
            "vectors": args.vectors,
            "dim": dim,
            "rates": rates,
            "spent": spent,
        }
        median = {name: statistics.median(r) for name, r in rates.items()}
        slower = min((COPY, MODEL), key=lambda n: median[n])
        pairs = zip(rates[JOB], rates[slower], strict=True)
        ratio = statistics.median(job / half for job, half in pairs)
        both = 1 / sum(1 / median[n] for n in (COPY, MODEL))
        micro = {n: statistics.median(s) / args.vectors * 1e6 for n, s in spent.items()}
        what = "projected" if args.target is None else f"bridged to {args.target}"
        rows = [[n, round(r), micro[n]] for n, r in median.items()]
        print(cli.table(rows, (f"{args.source} {what}", "vectors/s", "processor µs/vector")))
        print(f"\nthe job runs at {ratio:.0%} of {slower}; without overlap: {both:,.0f} vectors/s")
        about = f"{jax.device_count()} × {jax.devices()[0].device_kind}, {os.cpu_count()} CPUs"
        print(f"{about}, load average {os.getloadavg()[0]:.1f}")
        result |= {"slower": slower, "ratio": ratio}
        if args.large:
            shutil.rmtree(f"{scratch}/in")
            result["large"] = _large(args, dim, Path(scratch))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


def generate(
    folder: Path, node_type: str, count: int, dim: int, shard_records: int = SHARD
) -> None:
    """Write project shards of random float16 vectors, a block at a time."""
    choice, shards = np.random.default_rng(0), []
    total, width = -(-count // shard_records), 10
    layout = node_layout(width, dim, "float16")
    block = choice.normal(size=(ROWS, dim)).astype(np.float16)
    for k in range(total):
        file = shard_file("nodes", node_type, k, total)
        rows = min(shard_records, count - k * shard_records)
        with shard_writer(folder, file, layout) as shard:
            for at in range(0, rows, ROWS):
                n, first = min(ROWS, rows - at), k * shard_records + at
                ids = encode_ids([f"{i:010d}" for i in range(first, first + n)], width)
                shard.append({"id": ids, "embedding": np.roll(block[:n], k + at, axis=1)})
        shards.append(shard.shard(file))
    table = NodeTable(node_type, dim, "float16", count, width, tuple(shards))
    write_json(folder / f"nodes/{file_name(node_type)}.json", asdict(table))


class _Copy(Projection):
    """The job without its model: what is read is checked, and as much as it would be is written."""

    @cached_property
    def compute(self) -> Callable[[np.ndarray], Any]:
        """The same block of numbers for every block of vectors."""
        shape = (self.rows, self._width)
        block = np.random.default_rng(0).normal(size=shape).astype(DTYPES[self._options.dtype])
        return lambda x: block


def _work(kind: type[Projection], options: Options) -> Callable[[], None]:
    """A whole job, ready to go: what is loaded once a process is loaded."""
    shutil.rmtree(options.output, ignore_errors=True)
    projection = kind(options)

    def work() -> None:
        projection.run(range(projection.journal.total))
        projection.complete()

    return work


def _model(options: Options) -> Callable[[], None]:
    shutil.rmtree(options.output, ignore_errors=True)
    projection = Projection(options)
    x = next(projection.source.blocks(0, projection.rows)).x
    blocks = -(-projection.source.rows // projection.rows)

    def work() -> None:
        waiting: list[jax.Array] = []
        for _ in range(blocks):
            waiting.append(projection.compute(x))
            if len(waiting) > DEPTH:
                waiting.pop(0).block_until_ready()
        jax.block_until_ready(waiting)

    return work


def _large(args: argparse.Namespace, dim: int, scratch: Path) -> dict[str, Any]:
    """One job in a process of its own: plain projections, the heaviest on memory and disk."""
    generate(scratch / "large", args.source, args.large, dim)
    size = sum(p.stat().st_size for p in scratch.glob("large/nodes/*.tfrecord"))
    command = [sys.executable, "-m", "bridge_jax.project", "--workdir", args.workdir]
    command += ["--input", str(scratch / "large"), "--source", args.source, "--dtype", "float16"]
    start = time.perf_counter()
    subprocess.run([*command, "--output", str(scratch / "out2")], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
    print(
        f"\n{args.large:,} vectors ({size / 1e9:.1f} GB) projected in {seconds:.0f} s, start "
        f"included, with a peak of {peak:.2f} GiB"
    )
    return {"vectors": args.large, "bytes": size, "seconds": seconds, "peak_gib": peak}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.project", __doc__)
    parser.add_argument("--workdir", required=True, help="a trained run, e.g. runs/demo")
    parser.add_argument("--source", required=True, help="node type, e.g. gene/protein")
    parser.add_argument("--target", help="bridge to this node type; default: project")
    parser.add_argument("--vectors", type=int, default=262_144, help="default: 262,144")
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--large", type=int, metavar="N", help="also measure the memory of N vectors"
    )
    parser.add_argument("--folder", help="where the vectors go; default: the temporary folder")
    parser.add_argument("--json", help="write the result here")
    return parser


if __name__ == "__main__":
    cli.run(main)
