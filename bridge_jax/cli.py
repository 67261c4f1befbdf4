"""Parts that all commands share: argument parsers, and errors as plain messages."""

import _thread
import argparse
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bridge_jax.data.embedding_formats.base import ReadOptions
from bridge_jax.errors import InputError
from bridge_jax.formatting import escape_control_characters

# Environment variable of a process that the kernel shall end with the process that started it.
END_WITH_PARENT = "BRIDGE_JAX_END_WITH_PARENT"
_PR_SET_PDEATHSIG = 1  # of Linux' prctl(2)


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Runs a command and exits.

    Input errors and operating-system errors print only their message and exit with 2. Ctrl-C exits
    with 130. A bug keeps its traceback.

    Args:
      main: Function that takes the arguments (None for `sys.argv`) and returns an exit code or
        None.
    """
    if os.environ.pop(END_WITH_PARENT, "") and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        with _redelivered_interrupts():
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
    except KeyboardInterrupt as e:
        code = _report(str(e) or "interrupted", 130)
    sys.exit(code)


@contextmanager
def _redelivered_interrupts() -> Iterator[None]:
    """Delivers a Ctrl-C again that came while a callback of the garbage collector ran.

    Python prints and drops an exception that such a callback raises, and JAX has one.
    """
    default, is_running = sys.unraisablehook, [True]

    def interrupt() -> None:
        time.sleep(0.05)  # until the callback has ended
        if is_running:
            _thread.interrupt_main()

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            default(unraisable)
        else:
            _thread.start_new_thread(interrupt, ())  # does not wait, as `threading` does

    sys.unraisablehook = hook
    try:
        yield
    finally:
        is_running.clear()
        sys.unraisablehook = default


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


def add_embedding_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds the options of reading embeddings; `embedding_options` takes them from the result.

    Args:
      group: Argument group to add them to.
    """
    group.add_argument(
        "--embedding-key",
        default="",
        metavar="NAME",
        help="array, dataset, tensor or column of the embeddings, obsm/X_pca of an .h5ad; "
        "default: the only one",
    )
    group.add_argument(
        "--id-key",
        default="",
        metavar="NAME",
        help="array, dataset, tensor or column of the ids; default: ids, id or the only one",
    )
    group.add_argument(
        "--pool", choices=("mean",), help="average embeddings with one row per residue"
    )
    group.add_argument("--layer", type=int, help="layer of ESM's .pt files; default: the only one")
    group.add_argument(
        "--max-unpacked",
        type=float,
        default=1.0,
        metavar="GIB",
        help="limit for a compressed array that unpacks to more than 200 times its size; "
        "default: 1 GiB",
    )


def add_other_encoder_argument(group: argparse._ArgumentGroup) -> None:
    """Adds `--allow-other-encoder` to a command that reads embeddings for a dataset."""
    group.add_argument(
        "--allow-other-encoder",
        action="store_true",
        help="accept embeddings whose specification, in the JSON file beside them, names another "
        "encoder than that of the dataset",
    )


def add_encoder_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds --checkpoint and --device, which say how new sequences, SMILES and texts are encoded."""
    group.add_argument(
        "--checkpoint",
        default="",
        metavar="FOLDER",
        help="folder or hub name of the encoder's weights; default: the one that the dataset names",
    )
    group.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device of the encoder; default: auto, which prefers cuda",
    )


def embedding_options(args: argparse.Namespace) -> ReadOptions:
    """Takes the options of `add_embedding_arguments` out of the arguments of a command."""
    values = vars(args)
    return ReadOptions(
        pool=values.pop("pool") or "",
        layer=values.pop("layer"),
        key=values.pop("embedding_key"),
        id_key=values.pop("id_key"),
        max_unpacked=values.pop("max_unpacked"),
    )


def _report(message: str, code: int) -> int:
    lines = map(escape_control_characters, f"error: {message}".split("\n"))
    print("\n".join(lines), file=sys.stderr)
    return code
