"""Imports go one way, and nothing heavy comes with `import bridge_jax`."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted((ROOT / "bridge_jax").rglob("*.py"))
}
# Asked for by an option alone, and imported where they are used.
OPTIONAL = {
    "torch", "tensorflow", "tensorflow_datasets", "transformers", "rdkit", "faiss", "gradio", "ray",
    "plotly", "pykeen", "safetensors", "matplotlib", "pyarrow", "tensorboardX",
}  # fmt: skip


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
    return ast.parse(PACKAGE[module].read_text()).body


def within(module: str) -> set[str]:
    """Modules of the package that a module imports at its top."""
    found = {m for m in imported(statements(module), deep=False) if m in PACKAGE}
    return found - {module, "bridge_jax"}


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
    entry = {m for m, p in PACKAGE.items() if '__name__ == "__main__"' in p.read_text()}
    for module in sorted(PACKAGE.keys() - entry):
        assert not within(module) & entry, module
