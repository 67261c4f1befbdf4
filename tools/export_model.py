"""Export a run as a folder that can be shared: weights, config, vocabulary and a model card.

    python -m tools.export_model --workdir runs/demo --output bridge-demo

The layout is that of the Hugging Face Hub (`hf upload NAME bridge-demo` publishes it): the
weights are safetensors, README.md is the model card, filled in from the run, its dataset and its
evaluation. `bridge_jax.load("bridge-demo")` projects as the run does, to the same bits, and with
`dataset=` retrieves too; the commands take the folder as --workdir.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.errors import InputError
from bridge_jax.models.pretrained import is_exported, write_exported

CARD = "README.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    folder, workdir = Path(args.output), Path(args.workdir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to write")
    if folder.is_dir() and any(folder.iterdir()) and not (args.overwrite and is_exported(folder)):
        what = "an exported bridge; pass --overwrite to replace it" if is_exported(folder) else (
            "not empty; choose another --output"
        )  # fmt: skip
        raise InputError(f"{folder}: is {what}")
    if is_exported(workdir):
        raise InputError(f"{workdir}: is exported already; copy the folder")
    from bridge_jax.experiment.workdir import load_run

    from .export.model_card import export, model_card

    run = load_run(workdir, args.dataset, args.step)
    results = _json(workdir / "eval/test/results.json")
    if results and results["about"]["checkpoint"] != run.step:
        results = {}  # of another checkpoint
    exported = export(run)
    write_exported(folder, exported)
    if results:
        write_json(folder / "results.json", results)
    else:
        (folder / "results.json").unlink(missing_ok=True)
    about = _json(workdir / "run.json")
    card = model_card(run, exported, results, about, args.title or folder.name, args.licence)
    with atomic_file(folder / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    print(f"step {run.step} of {workdir} written to {folder} ({size:.1f} MB)")
    if not results:
        print(
            f"the card has no results: python -m bridge_jax.evaluate --workdir {workdir} makes "
            "them; then export with --overwrite"
        )
    return 0


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.export_model", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    cli.add_run_arguments(read)
    write.add_argument("--output", required=True, help="the folder to write")
    write.add_argument("--title", help="of the model card; default: the folder's name")
    write.add_argument(
        "--licence", help="of the weights, as the Hub spells it; default: the data's, if one"
    )
    write.add_argument("--overwrite", action="store_true", help="replace an exported bridge")
    return parser


if __name__ == "__main__":
    cli.run(main)
