"""Fixtures of the tests of the tools."""

import os
from pathlib import Path

import pytest

from tests.helpers.excerpt import import_excerpt


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes files without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def excerpt_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The excerpt as a dataset directory with an inductive split; never write into it."""
    return import_excerpt(tmp_path_factory.mktemp("excerpt"))
