"""Imports go one way, and nothing heavy comes with `import bridge_jax`."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge_jax.evaluation.baselines import BASELINES
from bridge_jax.evaluation.evaluators import EVALUATORS

ROOT = Path(__file__).resolve().parents[1]


def modules(folder: str) -> dict[str, Path]:
    """Every module of a package, by its name."""
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((ROOT / folder).rglob("*.py"))
    }


def entries(known: dict[str, Path]) -> list[str]:
    """Those that can be run."""
    return [m for m, p in known.items() if '__name__ == "__main__"' in p.read_text()]


PACKAGE = modules("bridge_jax")
ALL = PACKAGE | modules("tools")
# Asked for by an option alone, and imported where they are used.
OPTIONAL = {
    "torch", "tensorflow", "tensorflow_datasets", "transformers", "rdkit", "faiss", "gradio", "ray",
    "plotly", "pykeen", "safetensors", "matplotlib", "pyarrow", "tensorboardX",
}  # fmt: skip
# Slow to import: a command reads its arguments first.
SLOW = OPTIONAL | {"jax", "flax", "optax", "orbax", "scipy"}


def imported(nodes: list[ast.stmt], deep: bool) -> Iterator[str]:
    """Modules that statements import; with `deep` also inside functions and classes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif deep or not isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
            yield from imported(inner, deep)


def statements(module: str) -> list[ast.stmt]:
    return ast.parse(ALL[module].read_text()).body


def within(module: str) -> set[str]:
    """Modules of the package that a module imports at its top."""
    found = {m for m in imported(statements(module), deep=False) if m in PACKAGE}
    return found - {module, "bridge_jax"}


def outside(module: str) -> set[str]:
    """What importing a module imports that is not ours."""
    found, waiting, seen = set[str](), [module], {module}
    while waiting:
        for name in imported(statements(waiting.pop()), deep=False):
            parts = name.split(".")
            ours = {".".join(parts[: i + 1]) for i in range(len(parts))} & ALL.keys()
            waiting += ours - seen
            seen |= ours
            # `jaxtyping.Array` is an array of JAX.
            found |= set() if ours else {"jax" if name == "jaxtyping.Array" else parts[0]}
    return found


def test_the_package_has_no_import_cycle():
    order = list(graphlib.TopologicalSorter({m: within(m) for m in PACKAGE}).static_order())
    assert set(order) == set(PACKAGE)  # a cycle raises CycleError, which names it
    assert order.index("bridge_jax.errors") < order.index("bridge_jax.train")


@pytest.mark.parametrize("module", PACKAGE)
def test_nothing_optional_is_imported_at_the_top(module):
    roots = {m.partition(".")[0] for m in imported(statements(module), deep=False)}
    assert not roots & OPTIONAL


@pytest.mark.parametrize("module", PACKAGE)
def test_the_package_imports_no_tool_config_or_test(module):
    roots = {m.partition(".")[0] for m in imported(statements(module), deep=True)}
    assert not roots & {"tools", "configs", "tests", "benchmarks"}


def test_parts_import_no_entry_point():
    """A module that can be run is imported by modules that can be run, and by none besides."""
    entry = set(entries(PACKAGE))
    for module in sorted(PACKAGE.keys() - entry):
        assert not within(module) & entry, module


@pytest.mark.parametrize("module", entries(ALL))
def test_help_and_a_typo_wait_for_nothing_slow(module):
    assert not outside(module) & SLOW


def test_the_walk_over_imports_finds_what_is_slow():
    assert {"jax", "optax", "orbax"} <= outside("bridge_jax.training.trainer") & SLOW


@pytest.mark.parametrize("family", [BASELINES, EVALUATORS])
def test_every_member_of_a_family_is_where_its_table_says(family):
    assert "no such member" not in family
    for name in family:
        assert callable(family[name])


def test_commands_are_imported_without_what_is_slow():
    code = f"import sys, {', '.join(entries(ALL))}; print({SLOW} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
