"""Export a training run as a pretrained bridge: weights, config, vocabulary and model card.

    python -m tools.export_model --workdir runs/demo --output bridge-demo

The folder has the layout of the Hugging Face Hub (`hf upload NAME bridge-demo` publishes it): the
weights are safetensors, README.md is the model card, filled in from the run, its dataset and its
evaluation. `bridge_jax.load("bridge-demo")` projects as the run does, to the same bits; the
commands take the folder as --workdir. To retrieve and explain it needs the candidates and their
facts: --with-dataset copies the dataset into the folder, otherwise it is opened with `dataset=`.
With --overwrite an exported bridge in the folder stays as it is until the new one is complete.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.data.files import atomic_file, read_json_object, write_json
from bridge_jax.data.folder_swap import finish_swap, is_swap_interrupted, staged_folder
from bridge_jax.data.output_lock import is_empty, output_lock
from bridge_jax.errors import InputError

CARD, RESULTS = "README.md", "results.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.evaluation.fusion_settings import FILE as FUSION
    from bridge_jax.evaluation.fusion_settings import read_settings, write_settings
    from bridge_jax.experiment.workdir import load_run
    from bridge_jax.models.pretrained import (
        CONFIG,
        DATASET,
        VOCABULARY,
        WEIGHTS,
        save_pretrained,
    )

    from .export.model_card import format_model_card
    from .export.trained_run import pretrained_from_run

    folder, workdir = Path(args.output), Path(args.workdir)
    if not is_swap_interrupted(folder):
        _check_folders(folder, workdir, args.overwrite)
    names = (CONFIG, VOCABULARY, FUSION, RESULTS, CARD, WEIGHTS)
    run = load_run(workdir, args.dataset, args.step)
    results = _read_json(workdir / "eval/test/results.json")
    if results and results["about"]["checkpoint"] != run.step:
        results = {}
    provenance = _read_json(workdir / "run.json")
    card = format_model_card(run, results, provenance, args.title or folder.name, args.licence)
    settings = read_settings(workdir)
    if settings and settings.step != run.step:
        settings = None
    dataset = Path(run.experiment.config.dataset)
    copied = _dataset_files(dataset) if args.with_dataset else []

    def old_files(folder: Path) -> set[str]:
        if not (folder / CONFIG).is_file():
            return set()
        old = (f"{DATASET}/{file}" for file in _dataset_files(folder / DATASET))
        return {*names, *old}

    with output_lock(folder):
        finish_swap(folder)
        _check_folders(folder, workdir, args.overwrite)
        with staged_folder(folder, WEIGHTS, old_files) as staging:
            save_pretrained(staging, pretrained_from_run(run))
            if results:
                write_json(staging / RESULTS, results)
            if settings:
                write_settings(staging, settings)
            for file in copied:
                (staging / DATASET / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(dataset / file, staging / DATASET / file)
            with atomic_file(staging / CARD) as temporary:
                temporary.write_text(card, encoding="utf-8")
    written = [*names, *(f"{DATASET}/{file}" for file in copied)]
    size = sum((folder / name).stat().st_size for name in written if (folder / name).exists()) / 1e6
    print(f"step {run.step} of {workdir} written to {folder} ({size:.1f} MB)")
    if not results:
        print(
            f"the card has no results: run python -m bridge_jax.evaluate --workdir {workdir}, "
            "then export again with --overwrite"
        )
    return 0


def _dataset_files(dataset: Path) -> list[str]:
    """Returns the files of a dataset that retrieval reads; none if there is no dataset."""
    from .ingest.replace_dataset import MANIFEST, files_of_dataset

    files = files_of_dataset(dataset)
    return sorted(f for f in files | {MANIFEST} if (dataset / f).is_file())


def _check_folders(folder: Path, workdir: Path, overwrite: bool) -> None:
    from bridge_jax.models.pretrained import CONFIG, is_pretrained

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to write")
    # An interrupted --overwrite leaves the config without the weights.
    if is_pretrained(folder) or "library_name" in read_json_object(folder / CONFIG):
        if not overwrite:
            raise InputError(
                f"{folder}: is an exported bridge; pass --overwrite to replace it, or choose "
                "another --output"
            )
    elif not is_empty(folder):
        raise InputError(f"{folder}: is not empty; choose another --output")
    if is_pretrained(workdir):
        raise InputError(f"{workdir}: is exported already; copy the folder")


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.export_model", __doc__)
    inputs = parser.add_argument_group("inputs")
    outputs = parser.add_argument_group("outputs")
    cli.add_run_arguments(inputs)
    outputs.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    outputs.add_argument(
        "--title", help="title of the model card; default: the name of the output folder"
    )
    outputs.add_argument(
        "--licence",
        help="licence of the weights, as the Hub spells it; default: the data's, if it has only "
        "one, otherwise `other`",
    )
    outputs.add_argument(
        "--with-dataset",
        action="store_true",
        help="copy the dataset too, so that the exported bridge retrieves without another file",
    )
    outputs.add_argument(
        "--overwrite", action="store_true", help="replace an exported bridge in the output folder"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
