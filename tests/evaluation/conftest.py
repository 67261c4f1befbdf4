"""Fixtures of the evaluation tests."""

import shutil
from pathlib import Path

import pytest

from bridge_jax.experiment.workdir import TrainedRun, load_run


@pytest.fixture(scope="module")
def trained_run(trained: Path) -> TrainedRun:
    """The shared trained run, loaded; tests must not write into its workdir."""
    return load_run(trained)


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    """Workdir of a copy of the trained run, for tests that write into it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
