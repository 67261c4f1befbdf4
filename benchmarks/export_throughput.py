"""Compares the throughput of an export of embeddings to that of the encoder's forward pass alone.

    python -m benchmarks.export_throughput --encoder minilm --type disease \\
        --input disease.csv.gz --rows 1500 --json minilm.json

The rows are dealt into parts. For each part two tasks are timed, in alternating order, so that
other load on the machine slows both alike:

- the model alone, over the batches of the part, recorded before and on the device already;
- the whole export, from the CSV file to the sidecar, with the model loaded.

The ratio is the rate of the export over that of the model, by wall-clock time and by the processor
time of this process, which other load disturbs less. The share of the export's time inside the
model says the same without a comparison (on a CPU only; a GPU computes asynchronously). Loading the
model is timed separately.
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

from bridge_jax import cli
from bridge_jax.encoders import ENCODERS
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table
from tools import export_embeddings as command
from tools.export.encode import ExportOptions, export_embeddings, resolve_encoder
from tools.formats.files import open_decompressed

ModelCalls = list[tuple[tuple[Any, ...], dict[str, Any]]]  # arguments of each forward pass


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    import torch

    required = ["--encoder", args.encoder, "--type", args.type, "--input", "-", "--output", "-"]
    options = ExportOptions(**vars(command._parser().parse_args([*required, *args.options])))
    family, settings = resolve_encoder(options)
    start = time.perf_counter()
    encoder = family.load(settings)
    load_seconds = time.perf_counter() - start
    model = getattr(encoder, "model", None)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"--encoder {args.encoder}: has no PyTorch model to time alone")
    # Exports use the loaded encoder.
    ENCODERS[args.encoder.split(":")[0]] = replace(family, load=lambda settings: encoder)

    parts: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs = _split_input(Path(args.input), Path(scratch), args.rows, args.parts)
        for i, path in enumerate(inputs):
            export = _make_export(replace(options, input=str(path)), Path(scratch))
            parts.append(_time_part(model, export, model_first=bool(i % 2)))
            print(f"part {i + 1}/{len(inputs)}: {parts[-1]}", file=sys.stderr)

    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    result = {
        "encoder": args.encoder,
        "options": args.options,
        "rows": total["rows"],
        "threads": torch.get_num_threads(),
        "load_seconds": load_seconds,
        "model_rows_per_second": total["rows"] / total["model"],
        "command_rows_per_second": total["rows"] / total["command"],
        "ratio_by_clock": total["model"] / total["command"],
        "ratio_by_processor": total["model processor"] / total["command processor"],
        "median_ratio_by_processor": statistics.median(
            part["model processor"] / part["command processor"] for part in parts
        ),
        "share_inside_model": total["inside"] / total["command"],
        "load_average": os.getloadavg()[0],
        "parts": parts,
    }
    rows = [
        ["rows/s, model alone", result["model_rows_per_second"]],
        ["rows/s, export", result["command_rows_per_second"]],
        ["ratio by wall-clock time", result["ratio_by_clock"]],
        ["ratio by processor time", result["ratio_by_processor"]],
        ["ratio by processor time, median of the parts", result["median_ratio_by_processor"]],
        ["share of the export inside the model", result["share_inside_model"]],
    ]
    print(text_table(rows, (f"{args.encoder}, {total['rows']:,} rows", "")))
    load_average = result["load_average"]
    print(f"loading the model took {load_seconds:.1f} s, once; load average {load_average:.1f}")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


class _ForwardTimer:
    """Sums the time inside a model's forward pass while it is open."""

    def __init__(self, model: Any) -> None:
        self.seconds = self._start = 0.0
        self._model = model

    def __enter__(self) -> "_ForwardTimer":
        self._hooks = (
            self._model.register_forward_pre_hook(self._begin),
            self._model.register_forward_hook(self._end),
        )
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._start


def _time_part(model: Any, export: Callable[[], int], model_first: bool) -> dict[str, float]:
    """Returns the number of rows of a part, and the seconds of the model and of the export."""
    calls: ModelCalls = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    part: dict[str, float] = {"rows": export()}  # records the batches, and warms both up
    hook.remove()
    tasks = {"command": export, "model": lambda: _replay(model, calls)}
    with _ForwardTimer(model) as timer:
        for name in sorted(tasks, reverse=model_first):
            timer.seconds = 0.0
            start, processor_start = time.perf_counter(), time.process_time()
            tasks[name]()
            part[name] = time.perf_counter() - start
            part[f"{name} processor"] = time.process_time() - processor_start
            if name == "command":
                part["inside"] = timer.seconds
    return part


def _split_input(source: Path, scratch: Path, max_rows: int, num_parts: int) -> list[Path]:
    """Writes the first rows as CSV files of similar size and mixture of lengths."""
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(open_decompressed(source), encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    rows = rows[: max_rows or None]
    paths = []
    for i in range(num_parts):
        path = scratch / f"part{i}.csv"
        with open(path, "w", newline="") as handle:
            csv.writer(handle).writerows([header, *rows[i::num_parts]])
        paths.append(path)
    return paths


def _make_export(options: ExportOptions, scratch: Path) -> Callable[[], int]:
    """Returns a function that runs an export silently and returns the number of its vectors."""

    def run() -> int:
        with (
            tempfile.TemporaryDirectory(dir=scratch) as output,
            contextlib.redirect_stderr(io.StringIO()),
        ):
            export_embeddings(replace(options, output=output))
            (sidecar,) = Path(output).glob("nodes/*.json")
            return int(json.loads(sidecar.read_text())["count"])

    return run


def _replay(model: Any, calls: ModelCalls) -> None:
    """Runs recorded forward passes."""
    import torch

    with torch.inference_mode():
        for args, kwargs in calls:
            model(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.export_throughput", __doc__)
    parser.add_argument("--encoder", required=True, help="encoder, as for tools.export_embeddings")
    parser.add_argument("--type", required=True, help="node type")
    parser.add_argument("--input", required=True, help="CSV file with a header, plain or gzipped")
    parser.add_argument("--rows", type=int, default=0, help="first rows to export; default: all")
    parser.add_argument("--parts", type=int, default=6, help="number of parts; default: 6")
    parser.add_argument("--json", help="JSON file to write; default: none")
    parser.add_argument(
        "options",
        nargs="*",
        help="further options of tools.export_embeddings, after --, e.g. --max-length 96",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
