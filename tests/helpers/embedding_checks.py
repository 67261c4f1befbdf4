"""Reads a file of embeddings and checks that each id has its vector."""

from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.embedding_files import ReadOptions, open_embedding_file
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import read_embedding

IDS = ["P04637", "Q9Y6K9", "A0A024", "9606", "a b", "β-TRCP"]
X = np.random.default_rng(1).normal(size=(len(IDS), 5)).astype(np.float32)


def read(path: Path, **options) -> dict[str, np.ndarray]:
    """Vectors by id, read in blocks of two from two slices."""
    file = open_embedding_file(path, ReadOptions(**options))
    n, dim = file.num_rows, file.dim or file.first_dim()
    ids = [i for block in file.ids() for i in block]
    vectors: list[np.ndarray] = []
    block_ids: list[str] = []
    for start, stop in ((0, n // 2), (n // 2, n)):
        for block in file.blocks(start, stop, 2, dim):
            assert not block.faults
            assert block.first_row == len(block_ids)
            block_ids += block.ids
            vectors += list(block.x)
    assert ids == block_ids
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, vectors, strict=True))


def check(path: Path, x: np.ndarray = X, ids=IDS, **options) -> None:
    """The file holds `x` under `ids`, in any order; `--embedding` reads the same vectors."""
    vectors = read(path, **options)
    assert vectors.keys() == set(ids)
    for name, expected in zip(ids, x, strict=True):
        np.testing.assert_array_equal(np.asarray(vectors[name], np.float32), expected, name)
    queries = read_embedding(path, ReadOptions(**options))
    np.testing.assert_array_equal(queries, np.stack(list(vectors.values())))


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as error:
        read(path, **options)
    message = str(error.value)
    assert str(path) in message
    assert message.isprintable()
    return message.replace(str(path), path.name)


def save_ids(path: Path, ids=IDS) -> None:
    path.with_suffix(".ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
