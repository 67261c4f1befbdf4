"""Shared fixtures; the package's shape annotations are executed in every test."""

import os

# Tests compile many small programs once: less optimisation makes the suite several times faster.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")

from jaxtyping import install_import_hook

install_import_hook("bridge_jax", "beartype.beartype")

from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "data/demo"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset directory of a few hundred real nodes, cut from the demo."""
    from tools import subset

    output = tmp_path_factory.mktemp("data") / "tiny"
    keep = ["gene/protein=250", "molecular_function=80", "cellular_component=40"]
    subset.main([str(DEMO), "--output", str(output), *(f"--keep={k}" for k in keep)])
    return output
