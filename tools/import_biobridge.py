"""Import a clone of the BioBridge reference repository, and its released checkpoint.

    python -m tools.import_biobridge --input BioBridge --output DATASET [--checkpoint WORKDIR]

The codes of node types and relations become the ids of the dataset, so that released weights fit;
types and relations without data keep their codes. The split is the released one (directed rows,
leaky). Embeddings are read from data/embeddings/<name>/*.pkl; no code in a pickle is run.

With --checkpoint the released weights become a run for `python -m bridge_jax.evaluate --workdir`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.folder_swap import staged_folder
from bridge_jax.data.output_lock import is_empty
from bridge_jax.errors import InputError

from .biobridge.dataset import EMBEDDINGS, SOURCES, import_clone
from .formats.biobridge import open_clone
from .ingest.replace_dataset import dataset_lock
from .ingest.write_dataset import format_report, read_sources


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    if args.weights and not args.checkpoint:
        raise InputError("--weights needs --checkpoint, the workdir for the converted weights")
    with dataset_lock(Path(args.output), args.overwrite):
        return _import(args, Path(args.output))


def _import(args: argparse.Namespace, output: Path) -> int:
    clone, released = open_clone(Path(args.input)), None
    if args.checkpoint:
        if not is_empty(Path(args.checkpoint)):
            raise InputError(f"{args.checkpoint}: is not empty; choose another --checkpoint")
        from .biobridge.run import read_released_weights, write_run

        released = read_released_weights(Path(args.weights or Path(args.input) / "checkpoints"))
    manifest = import_clone(
        clone,
        Path(args.embeddings or clone.folder.parent / "embeddings" / EMBEDDINGS),
        output,
        args.name or output.resolve().name,
        args.validation_fraction,
        args.seed,
        read_sources(args.sources) or SOURCES,
    )
    print(format_report(manifest))
    if released:
        with staged_folder(Path(args.checkpoint), "config.json", lambda _: set()) as staging:
            write_run(released, output, staging)
        print(
            f"\n{released.file} converted; to evaluate it: python -m bridge_jax.evaluate "
            f"--workdir {args.checkpoint}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.import_biobridge", __doc__)
    inputs = parser.add_argument_group("inputs")
    outputs = parser.add_argument_group("outputs")
    split = parser.add_argument_group("split")
    inputs.add_argument("--input", required=True, help="clone, after `git lfs pull`")
    inputs.add_argument(
        "--embeddings",
        metavar="FOLDER",
        help=f"folder of pickles; default: data/embeddings/{EMBEDDINGS} of the clone",
    )
    inputs.add_argument(
        "--weights",
        metavar="PATH",
        help="pytorch_model.bin, .safetensors or .npz beside its model_config.json, or their "
        "folder; default: the only one under checkpoints/ of the clone",
    )
    inputs.add_argument("--sources", help="JSON list of {part, source, licence} for the manifest")
    outputs.add_argument("--output", required=True, help="dataset directory")
    outputs.add_argument(
        "--checkpoint",
        metavar="WORKDIR",
        help="workdir for a run with the released weights; default: weights are not converted",
    )
    outputs.add_argument("--name", help="name of the dataset; default: the name of --output")
    outputs.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    split.add_argument(
        "--validation-fraction",
        type=float,
        default=0.0,
        help="fraction of the nodes of each type whose training rows become validation rows; the "
        "release has none, but training needs some; default: 0",
    )
    split.add_argument(
        "--seed", type=int, default=0, help="random seed of the validation rows; default: 0"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
