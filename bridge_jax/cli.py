"""Parts that all commands share: argument parsers, and errors as plain messages."""

import argparse
import sys
from collections.abc import Callable, Sequence

from bridge_jax.errors import InputError


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Runs a command and exits.

    Input errors and operating-system errors print only their message and exit with 2. Ctrl-C exits
    with 130. A bug keeps its traceback.

    Args:
      main: Function that takes the arguments (None for `sys.argv`) and returns an exit code or
        None.
    """
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except InputError as e:
        code = _report(str(e), 2)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except OSError as e:
        message = f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e)
        code = _report(message, 2)
    except KeyboardInterrupt:
        code = _report("interrupted", 130)
    sys.exit(code)


def parser(command: str, doc: str | None) -> argparse.ArgumentParser:
    """Makes the parser of a command.

    Args:
      command: Module of the command, e.g. `bridge_jax.train`.
      doc: Docstring of the module, which becomes the description as it stands.
    """
    started_as = sys.argv[0]
    return argparse.ArgumentParser(
        prog=started_as if started_as.startswith("bridge-jax ") else f"python -m {command}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run_arguments(
    group: argparse._ArgumentGroup, workdir: str = "trained run, e.g. runs/demo"
) -> None:
    """Adds --workdir, --step and --dataset, which name a trained run.

    Args:
      group: Argument group to add them to.
      workdir: Help text of --workdir.
    """
    group.add_argument("--workdir", required=True, help=workdir)
    group.add_argument(
        "--step", type=int, help="step of a checkpoint; default: the best by validation"
    )
    group.add_argument("--dataset", help="folder of the run's dataset; default: the config's")


def _report(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
