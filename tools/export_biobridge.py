"""Export a run's weights in the form of the BioBridge release.

    python -m tools.export_biobridge --workdir WORKDIR --output FOLDER

Writes pytorch_model.bin (a plain state dict), model_config.json, and data_config.json with the ids
of types and relations. The temperature and a popularity prior have no place in that form: they
belong to the scores, not to the bridge.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.experiment.workdir import load_run

    from .biobridge.run import WEIGHTS, write_released

    folder = Path(args.output)
    if (folder / WEIGHTS).exists() and not args.overwrite:
        raise InputError(f"{folder / WEIGHTS}: is there already; pass --overwrite to replace it")
    run = load_run(args.workdir, args.dataset, args.step)
    write_released(run, folder)
    print(f"step {run.step} of {args.workdir} written to {folder / WEIGHTS}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.export_biobridge", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    cli.add_run_arguments(read)
    write.add_argument("--output", required=True, help="the folder to write")
    write.add_argument("--overwrite", action="store_true", help="replace exported weights")
    return parser


if __name__ == "__main__":
    cli.run(main)
