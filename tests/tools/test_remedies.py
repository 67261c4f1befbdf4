"""Every option that a message of `tools.import_graph` names is an option of this command."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bridge_jax.data import embedding_formats
from tools import import_graph

ROOT = Path(import_graph.__file__).parents[1]
# Options in messages that this command never shows, and why.
ELSEWHERE = {
    ("features.py", "--text-columns"): "only if an encoder asks for a kind of text",
    ("torch_tensors.py", "--include"): "an option of ESM's own script",
    ("shard_journal.py", "--output"): "exports and projections only",
    ("shard_journal.py", "--shard"): "exports and projections only",
    ("export_swap.py", "--output"): "exports only",
}


def modules() -> list[Path]:
    """Returns the modules of tools and data that the command imports, and the formats'."""
    code = (
        "import sys, tools.import_graph as m; m._parser();"
        "print(*{x.__file__ for x in list(sys.modules.values())"
        " if (getattr(x, '__file__', None) or '').startswith(sys.argv[1])}, sep='\\n')"
    )
    command = [sys.executable, "-c", code, str(ROOT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    formats = Path(embedding_formats.__file__).parent.glob("*.py")
    files = {*map(Path, run.stdout.split()), *formats}
    parts = ROOT / "tools", ROOT / "bridge_jax/data"
    return sorted(f for f in files if any(f.is_relative_to(part) for part in parts))


def options_in_messages(path: Path) -> Iterator[str]:
    """Yields the options in the strings of a module, without docstrings and help texts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            skipped |= {s.value for s in body if isinstance(s, ast.Expr)
                        and isinstance(s.value, ast.Constant)}  # fmt: skip
        if isinstance(node, ast.keyword) and node.arg == "help":
            skipped |= set(ast.walk(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield from re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value)


def test_every_remedy_exists() -> None:
    known = {o for action in import_graph._parser()._actions for o in action.option_strings}
    found = 0
    for path in modules():
        for option in options_in_messages(path):
            found += 1
            if (path.name, option) not in ELSEWHERE:
                assert option in known, f"{path.relative_to(ROOT)} names {option}"
    assert found > 20
