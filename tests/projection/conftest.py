"""A library of embeddings, and its projection in one uninterrupted run."""

import numpy as np
import pytest

from bridge_jax import project
from tests.helpers.projection import DIM, NUM_FILES, ROWS_PER_FILE, TARGET, command


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Eight npy files of embeddings, about three blocks each."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    for k in range(NUM_FILES):
        stem = f"gene_protein-{k:05d}-of-{NUM_FILES:05d}"
        x = rng.normal(size=(ROWS_PER_FILE, DIM)).astype(np.float16)
        np.save(folder / f"{stem}.npy", x)
        ids = (f"P{k * ROWS_PER_FILE + i}\n" for i in range(ROWS_PER_FILE))
        (folder / f"{stem}.ids.txt").write_text("".join(ids))
    return folder


@pytest.fixture(scope="session")
def uninterrupted(trained, library, tmp_path_factory):
    """The output of one worker that was never killed."""
    output = tmp_path_factory.mktemp("uninterrupted")
    assert project.main(command(trained, library, output, "--target", TARGET)) == 0
    return output
