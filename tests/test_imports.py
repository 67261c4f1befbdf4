"""Imports run downward, and nothing heavy comes with `import bridge_jax`."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from bridge_jax.__main__ import COMMANDS
from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.evaluators import EVALUATORS

ROOT = Path(__file__).resolve().parents[1]
# From the bottom to the top: a module imports modules of its own layer or of lower ones.
LAYERS = (
    {"errors", "formatting", "progress", "registry"},
    {"data", "config"},
    {"models", "distributed", "encoders"},
    {"experiment"},
    {"evaluation", "retrieval"},
    {"predictor", "training"},
    {"web", "prompting", "projection"},
    {"train", "evaluate", "sweep", "retrieve", "project", "prompt", "serve", "cli", "__main__"},
)
# Libraries of an option: imported where they are used.
OPTIONAL = {
    "torch", "tensorflow", "tensorflow_datasets", "transformers", "rdkit", "faiss", "gradio", "ray",
    "plotly", "pykeen", "safetensors", "matplotlib", "pyarrow", "tensorboardX", "sklearn",
    "huggingface_hub", "h5py", "anndata",
}  # fmt: skip
# Slow to import: a command parses its arguments first.
SLOW = OPTIONAL | {"jax", "flax", "optax", "orbax", "scipy"}


def modules(folder: str) -> dict[str, Path]:
    """Every module of a package, by its name."""
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((ROOT / folder).rglob("*.py"))
    }


PACKAGE = modules("bridge_jax")
TOOLS = modules("tools")
ALL = PACKAGE | TOOLS


def commands(known: dict[str, Path]) -> list[str]:
    """Modules that can be run as a command."""
    return [m for m, p in known.items() if "\ndef _parser(" in p.read_text()]


def imported(module: str, deep: bool = False) -> set[str]:
    """Modules that a module imports at its top; with `deep` also inside functions and classes."""
    is_package = ALL[module].name == "__init__.py"
    package = module.split(".") if is_package else module.split(".")[:-1]
    body = ast.parse(ALL[module].read_text()).body
    return {name for node in _statements(body, deep) for name in _names(node, package)}


def _statements(nodes: list[ast.stmt], deep: bool) -> Iterator[ast.stmt]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif deep or not isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
            yield from _statements(inner, deep)


def _names(node: ast.stmt, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *filter(None, [node.module])])
        yield module
        yield from (f"{module}.{a.name}" for a in node.names)


def own(module: str, deep: bool = False) -> set[str]:
    """Modules of this project that a module imports."""
    return (imported(module, deep) & ALL.keys()) - {module, "bridge_jax", "tools"}


def foreign(module: str) -> set[str]:
    """Packages of others that importing a module imports."""
    found, queue, seen = set[str](), [module], {module}
    while queue:
        for name in imported(queue.pop()):
            parts = name.split(".")
            ours = {".".join(parts[: i + 1]) for i in range(len(parts))} & ALL.keys()
            queue += ours - seen
            seen |= ours
            # `jaxtyping.Array` is an array of JAX.
            found |= set() if ours else {"jax" if name == "jaxtyping.Array" else parts[0]}
    return found


def layer(module: str) -> int:
    """Number of a module's layer."""
    chapter = module.split(".")[1]
    return next(i for i, chapters in enumerate(LAYERS) if chapter in chapters)


def test_every_module_has_a_layer():
    for module in PACKAGE.keys() - {"bridge_jax"}:
        assert layer(module) >= 0, module


@pytest.mark.parametrize("module", sorted(PACKAGE.keys() - {"bridge_jax"}))
def test_imports_run_downward(module):
    upward = {m for m in own(module, deep=True) if layer(m) > layer(module)}
    assert not upward, f"{module} imports {upward}"


@pytest.mark.parametrize("package", [PACKAGE, TOOLS], ids=["bridge_jax", "tools"])
def test_there_is_no_import_cycle(package):
    graph = {m: own(m) & package.keys() for m in package}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(package)  # a cycle raises CycleError, which names it


def test_no_command_is_imported_as_a_library():
    for module in ALL.keys() - {"bridge_jax.__main__"}:
        assert not own(module, deep=True) & {*commands(ALL), "bridge_jax.__main__"}, module


def test_only_commands_import_the_command_line_helper():
    for module in ALL.keys() - {*commands(ALL), "bridge_jax.__main__"}:
        assert "bridge_jax.cli" not in own(module, deep=True), module


@pytest.mark.parametrize("module", PACKAGE)
def test_nothing_optional_is_imported_at_the_top(module):
    assert not {m.partition(".")[0] for m in imported(module)} & OPTIONAL


@pytest.mark.parametrize("module", PACKAGE)
def test_the_package_imports_no_tool_config_or_test(module):
    roots = {m.partition(".")[0] for m in imported(module, deep=True)}
    assert not roots & {"tools", "configs", "tests", "benchmarks"}


@pytest.mark.parametrize("module", TOOLS)
def test_tools_import_one_another_relatively(module):
    """They are `tools` in a checkout and `bridge_jax.tools` when they are installed."""
    text = TOOLS[module].read_text()
    assert "from tools" not in text
    assert "import tools" not in text


@pytest.mark.parametrize("module", commands(ALL))
def test_help_and_a_typo_wait_for_nothing_slow(module):
    assert not foreign(module) & SLOW


def test_the_walk_over_imports_finds_what_is_slow():
    assert {"jax", "optax", "orbax"} <= foreign("bridge_jax.training.trainer") & SLOW


def test_bridge_jax_has_a_subcommand_for_every_command():
    modules = {m if m.startswith("tools.") else f"bridge_jax.{m}" for m in COMMANDS.values()}
    assert modules == set(commands(ALL))


@pytest.mark.parametrize("registry", [BASELINES, EVALUATORS], ids=["baselines", "evaluators"])
def test_every_entry_of_a_registry_can_be_imported(registry):
    assert "no such entry" not in registry
    for name in registry:
        assert callable(registry[name])


def test_commands_are_imported_without_what_is_slow():
    code = f"import sys, {', '.join(commands(ALL))}; print({SLOW} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_wheel_lists_every_package():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    existing = {".".join(p.parent.relative_to(ROOT).parts) for p in ALL.values()}
    configs = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "configs").rglob("*.py")}
    inside = {f"bridge_jax.{name}" for name in configs | {n for n in existing if "tools" in n[:5]}}
    templates = {"bridge_jax.demo", "bridge_jax.prompting.templates"}
    assert listed == {n for n in existing if n.startswith("bridge_jax")} | inside | templates
