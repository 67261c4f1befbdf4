"""Shared fixtures; the package's shape annotations are executed in every test."""

import os
import shutil
import tempfile
from pathlib import Path

# Processes compile the same programs: once is enough for a test session and all its workers, which
# inherit the name.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/jax-cache-{os.getpid()}"
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# Eight virtual devices, for the tests that spread a batch; the others use one.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import pytest
from jaxtyping import install_import_hook

from tests.helpers.tiny_run import CONFIG, DEMO, STEPS

install_import_hook("bridge_jax", "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--docs`: also run what the pages and notebooks show."""
    parser.addoption("--docs", action="store_true", help="run the pages and the notebooks, too")


def pytest_sessionfinish() -> None:
    """Remove the compilation cache, after all workers."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset directory of a few hundred real nodes, cut from the demo."""
    from tools import subset

    output = tmp_path_factory.mktemp("data") / "tiny"
    keep = ["gene/protein=250", "molecular_function=80", "cellular_component=40"]
    subset.main([str(DEMO), "--output", str(output), *(f"--keep={k}" for k in keep)])
    return output


@pytest.fixture(scope="session")
def recipe(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG.format(steps=STEPS, dataset=str(tiny)))
    return path


@pytest.fixture(scope="session")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run, in this process."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    from bridge_jax import train

    assert train.main(["--config", str(recipe), "--workdir", str(workdir), "--no-evaluate"]) == 0
    return workdir
