"""Attacks every command that writes: kills it, interrupts it, fills its disk, starts it twice.

    python -m benchmarks.attack --times 10 --markdown attack.md
    python -m benchmarks.attack --only subset project

Each command first runs undisturbed, once with the options A and once with B. Then, `--times` times
each, every second time over an old output with --overwrite where the command has it:

    killed         SIGKILL at a random moment; then the same command again
    interrupted    SIGINT or SIGTERM at a random moment; then the same command again
    full disk      a disk that is too small by a random amount; then again with room
    two at once    A and B into one folder: one ends with 0 and is there, the other with 2

What is there after an attack is the old output, the new one, or nothing. The command that follows
must end with the files of the undisturbed run, without temporary files or locks, with a documented
exit code and without a traceback, and must not write a finished shard of an export or a projection
again. Full disks are tmpfs mounts, which need root. Inputs are tiny; encoders are replaced by one
without weights, downloads by files.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import unknown
from bridge_jax.formatting import markdown_table, text_table

from .commands import COMMANDS, Inputs, is_installed, use_toy_encoders
from .scenarios import SCENARIOS, Attack


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    for name in args.only:
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS, "--only")
    os.environ["JAX_PLATFORMS"] = "cpu"
    rng, rows, faults = random.Random(args.seed), [], []
    scratch = tempfile.mkdtemp(dir=args.folder)  # no context, which forked processes would end
    try:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{scratch}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        _import_everything()
        use_toy_encoders()
        inputs = Inputs(Path(scratch))
        for name in args.only or COMMANDS:
            if is_installed(name):
                row, found = attack(
                    name, inputs, Path(scratch) / "work", rng, args.times, args.scenarios
                )
            else:
                row, found = ["not run" for _ in args.scenarios], []
            rows.append([name, *row])
            faults += found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    header = ("command", *args.scenarios)
    print(text_table(rows, header))
    print("\n".join([f"{len(faults)} went wrong", *faults]))
    if args.markdown:
        Path(args.markdown).write_text(markdown_table(rows, header) + "\n")
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": rows, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


def attack(
    name: str,
    inputs: Inputs,
    scratch: Path,
    rng: random.Random,
    times: int,
    scenarios: Sequence[str] = SCENARIOS,
) -> tuple[list[str], list[str]]:
    """Attacks one command.

    Args:
      name: Name of the command.
      inputs: Inputs of the commands.
      scratch: Folder for outputs.
      rng: Source of the moments and sizes.
      times: Number of attacks per scenario.
      scenarios: Some of `SCENARIOS`; default: all.

    Returns:
      A cell for each scenario, such as `10, 0 lost`, and a line for each attack that went wrong.
    """
    target = Attack(COMMANDS[name](inputs), scratch / name, rng)
    cells, faults = [], []
    for scenario in scenarios:
        outcomes = [target.run(scenario, replace=bool(i % 2)) for i in range(times)]
        done = [outcome for outcome in outcomes if outcome is not None]
        wrong = [outcome for outcome in done if outcome]
        cells.append(f"{len(done)}, {len(wrong)} lost" if done else "not run")
        faults += [f"{name}: {scenario}: {fault}" for fault in wrong]
        print(f"{name}: {scenario}: {cells[-1]}", *wrong, sep="\n  ", file=sys.stderr, flush=True)
    return cells, faults


def _import_everything() -> None:
    """Imports what commands import, so that a forked process need not."""
    import bridge_jax.predictor
    import bridge_jax.projection.job
    import bridge_jax.training.trainer  # noqa: F401


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.attack", __doc__)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="COMMAND",
        help=f"commands to attack, of {', '.join(COMMANDS)}; default: all",
    )  # fmt: skip
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS, metavar="NAME",
        help=f"scenarios to run, of {', '.join(map(repr, SCENARIOS))}; default: all",
    )  # fmt: skip
    parser.add_argument("--times", type=int, default=10, help="times per attack; default: 10")
    parser.add_argument("--folder", help="folder for the outputs; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; default: 0")
    parser.add_argument("--markdown", metavar="FILE", help="file for the table in Markdown")
    parser.add_argument("--json", help="JSON file to write; default: none")
    return parser


if __name__ == "__main__":
    cli.run(main)
