"""Export the weights of a trained run in the format of the BioBridge release.

    python -m tools.export_biobridge --workdir WORKDIR --output FOLDER

Writes pytorch_model.bin (a plain state dict), model_config.json, and data_config.json with the
codes of node types and relations. The temperature and a popularity prior are not exported: they
belong to the scores, not to the bridge.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.folder_swap import staged_files
from bridge_jax.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.experiment.workdir import load_run

    from .biobridge.run import CONFIG, VOCABULARY, WEIGHTS, write_released_weights

    folder = Path(args.output)
    if (folder / WEIGHTS).exists() and not args.overwrite:
        raise InputError(f"{folder / WEIGHTS}: exists already; pass --overwrite to replace it")
    run = load_run(args.workdir, args.dataset, args.step)
    with staged_files(folder, (CONFIG, VOCABULARY, WEIGHTS)) as staging:
        write_released_weights(run, staging)
    print(f"step {run.step} of {args.workdir} written to {folder / WEIGHTS}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.export_biobridge", __doc__)
    inputs = parser.add_argument_group("inputs")
    outputs = parser.add_argument_group("outputs")
    cli.add_run_arguments(inputs)
    outputs.add_argument("--output", required=True, help="folder to write")
    outputs.add_argument("--overwrite", action="store_true", help="replace existing weights")
    return parser


if __name__ == "__main__":
    cli.run(main)
