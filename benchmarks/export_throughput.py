"""What the export command costs beyond the model's own forward pass.

    python benchmarks/export_throughput.py --encoder minilm --type disease --input disease.csv.gz \\
        --rows 1500 --json minilm.json

The rows are dealt into parts. For each part two things are timed, in alternating order, so that a
busy machine slows both alike: the bare model over the batches of that part, recorded beforehand
and ready on the device; and the whole command, from the CSV to the sidecar, with the model loaded.
The ratio is the command's rate over the model's, by the clock and by the processor time of this
process, which other work on the machine disturbs less. The share of the command's own time that
passes inside the model says the same without any comparison (on a CPU; a GPU works behind the
back of such a timer). Loading is timed by itself.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridge_jax import cli
from bridge_jax.encoders import ENCODERS
from bridge_jax.errors import InputError
from tools import export_embeddings
from tools.formats.files import open_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    import torch

    command = ["--encoder", args.encoder, "--type", args.type, *args.options]
    family, settings = export_embeddings.choose(
        export_embeddings._parser().parse_args([*command, "--input", "-", "--output", "-"])
    )
    start = time.perf_counter()
    encoder = family.load(settings)
    loading = time.perf_counter() - start
    if not isinstance(getattr(encoder, "model", None), torch.nn.Module):
        raise InputError(f"--encoder {args.encoder}: has no PyTorch model to time by itself")
    ENCODERS[args.encoder.split(":")[0]] = replace(family, load=lambda settings: encoder)

    parts: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs = _deal(Path(args.input), Path(scratch), args.rows, args.parts)
        for i, path in enumerate(inputs):
            whole = _command(command, path, Path(scratch))
            calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
            hook = encoder.model.register_forward_pre_hook(
                lambda _, a, k, calls=calls: calls.append((a, k)), with_kwargs=True
            )
            rows = whole()  # records the batches, and warms both up
            hook.remove()
            timed = {"model": _replay(encoder.model, calls), "command": whole}
            part: dict[str, float] = {"rows": rows}
            inside = _Stopwatch(encoder.model)
            for name in sorted(timed, reverse=bool(i % 2)):
                inside.seconds = 0.0
                clock, processor = time.perf_counter(), time.process_time()
                timed[name]()
                part[name] = time.perf_counter() - clock
                part[f"{name} processor"] = time.process_time() - processor
                if name == "command":
                    part["inside"] = inside.seconds
            inside.remove()
            parts.append(part)
            print(f"part {i + 1}/{len(inputs)}: {part}", file=sys.stderr)

    total = {key: sum(p[key] for p in parts) for key in parts[0]}
    by_processor = [p["model processor"] / p["command processor"] for p in parts]
    result = {
        "encoder": args.encoder,
        "options": args.options,
        "rows": total["rows"],
        "threads": torch.get_num_threads(),
        "load_seconds": loading,
        "model_rows_per_second": total["rows"] / total["model"],
        "command_rows_per_second": total["rows"] / total["command"],
        "ratio_by_clock": total["model"] / total["command"],
        "ratio_by_processor": total["model processor"] / total["command processor"],
        "median_ratio_by_processor": statistics.median(by_processor),
        "share_inside_model": total["inside"] / total["command"],
        "load_average": os.getloadavg()[0],
        "parts": parts,
    }
    rows = [
        ["rows/s, the model alone", result["model_rows_per_second"]],
        ["rows/s, the command", result["command_rows_per_second"]],
        ["ratio by the clock", result["ratio_by_clock"]],
        ["ratio by processor time", result["ratio_by_processor"]],
        ["the same, median of the parts", result["median_ratio_by_processor"]],
        ["share of the command inside the model", result["share_inside_model"]],
    ]
    print(cli.table(rows, (f"{args.encoder}, {total['rows']:,} rows", "")))
    print(
        f"loading the model took {loading:.1f} s, once; load average {result['load_average']:.1f}"
    )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


class _Stopwatch:
    """Sums the time that passes inside a model."""

    def __init__(self, model: Any) -> None:
        self.seconds = self.start = 0.0
        self.hooks = [
            model.register_forward_pre_hook(self._begin),
            model.register_forward_hook(self._end),
        ]

    def _begin(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self.start

    def remove(self) -> None:
        """Stop timing."""
        for hook in self.hooks:
            hook.remove()


def _deal(source: Path, scratch: Path, most: int, parts: int) -> list[Path]:
    """Write the first rows as several CSV files of about one size and mixture of lengths."""
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(open_text(source), encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    rows = rows[: most or None]
    paths = []
    for i in range(parts):
        path = scratch / f"part{i}.csv"
        with open(path, "w", newline="") as handle:
            csv.writer(handle).writerows([header, *rows[i::parts]])
        paths.append(path)
    return paths


def _command(command: list[str], path: Path, scratch: Path) -> Callable[[], int]:
    def run() -> int:
        with tempfile.TemporaryDirectory(dir=scratch) as output, contextlib.ExitStack() as quiet:
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            export_embeddings.main([*command, "--input", str(path), "--output", output])
            (sidecar,) = Path(output).glob("nodes/*.json")
            return int(json.loads(sidecar.read_text())["count"])

    return run


def _replay(model: Any, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Callable[[], None]:
    import torch

    def run() -> None:
        with torch.inference_mode():
            for args, kwargs in calls:
                model(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()

    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="as in tools.export_embeddings")
    parser.add_argument("--type", required=True, help="the node type")
    parser.add_argument("--input", required=True, help="a CSV with a header, plain or gzipped")
    parser.add_argument("--rows", type=int, default=0, help="the first so many; default: all")
    parser.add_argument("--parts", type=int, default=6, help="default: 6")
    parser.add_argument("--json", help="write the result here")
    parser.add_argument(
        "options", nargs="*", help="further options of the command, after --, as --max-length 96"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
