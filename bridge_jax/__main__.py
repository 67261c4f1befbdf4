"""The command line `bridge-jax`: runs a command by its name, or lists all commands.

bridge-jax
bridge-jax train --config configs/demo.py --workdir runs/demo
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import unknown

# Name of each command to its module, relative to `bridge_jax`; data tools live in `tools/`.
COMMANDS = {
    "train": "train",
    "evaluate": "evaluate",
    "sweep": "sweep",
    "retrieve": "retrieve",
    "project": "project",
    "prompt": "prompt",
    "serve": "serve",
    "export-embeddings": "tools.export_embeddings",
    "import-graph": "tools.import_graph",
    "import-biobridge": "tools.import_biobridge",
    "export-biobridge": "tools.export_biobridge",
    "build-openbiokg": "tools.build_openbiokg",
    "subset": "tools.subset",
    "align": "tools.align",
    "audit": "tools.audit",
    "verify-shards": "tools.verify_shards",
    "train-pykeen": "tools.train_pykeen",
    "export-model": "tools.export_model",
}
USAGE = "usage: bridge-jax COMMAND [options]      bridge-jax COMMAND --help"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names.

    Args:
      argv: Arguments; default: those of the process.

    Returns:
      The command's exit code.

    Raises:
      InputError: No command has this name.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("--help", "-h"):
        print(f"{USAGE}\n\n{command_list()}")
        return 0
    if name == "--version":
        from bridge_jax import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS, "bridge-jax")
    sys.argv = [f"bridge-jax {name}", *rest]
    return int(importlib.import_module(module_of(name)).main(rest) or 0)


def command_list() -> str:
    """Returns a line for each command: its name and what it does."""
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:<{width}}  {summary(name)}" for name in COMMANDS)


def summary(name: str) -> str:
    """Returns the first line of a command's module docstring, without importing the module."""
    spec = importlib.util.find_spec(module_of(name))
    if spec is None or spec.origin is None:
        return "not installed"
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def module_of(name: str) -> str:
    """Returns the module of a command, in an installation or in a checkout."""
    module = f"bridge_jax.{COMMANDS[name]}"
    tools = importlib.util.find_spec("bridge_jax.tools") if "tools." in module else True
    return module if tools else COMMANDS[name]


def entry() -> None:
    """Runs `main` as a console command: errors as plain messages, exit code 2."""
    cli.run(main)


if __name__ == "__main__":
    entry()
