"""Parts that all commands share: argument parsers, and errors as plain messages."""

import argparse
import sys
from collections.abc import Callable, Sequence

from bridge_jax.errors import InputError


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a command and exit.

    Input errors and operating-system errors print their message alone and exit with 2; Ctrl-C
    exits with 130; a bug keeps its traceback.

    Args:
      main: takes the arguments (None for `sys.argv`), returns an exit code or None.
    """
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except InputError as e:
        code = _say(str(e), 2)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except OSError as e:
        named = f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e)
        code = _say(named, 2)
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    sys.exit(code)


def parser(command: str, doc: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m <command>`, described by its module's docstring as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run_arguments(
    group: argparse._ArgumentGroup, workdir: str = "trained run, e.g. runs/demo"
) -> None:
    """Adds --workdir, --step and --dataset, which name a trained run."""
    group.add_argument("--workdir", required=True, help=workdir)
    group.add_argument("--step", type=int, help="checkpoint; default: the best by validation")
    group.add_argument("--dataset", help="folder of the run's dataset; default: the config's")


def _say(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
