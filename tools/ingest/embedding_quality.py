"""Describe embeddings by what goes wrong with encoders: collapse, copies, dead columns."""

import numpy as np
from jaxtyping import Float

HEADER = (
    "vectors", "dim", "norm min", "median", "max", "constant columns", "shared vectors",
    "effective rank",
)  # fmt: skip
_SAMPLE = 4096


def quality(x: Float[np.ndarray, "n dim"]) -> list[object]:
    """The figures of `HEADER` for one table.

    Args:
      x: finite vectors of any floating dtype; may be a strided view on a file.

    Returns:
      How many vectors and columns; the smallest, median and largest Euclidean norm; columns that
      have one value throughout; vectors that another id has too; and the effective rank.
    """
    norms = np.concatenate([np.linalg.norm(_wide(p), axis=1) for p in _parts(x)])
    constant = np.ones(x.shape[1], bool)
    for part in _parts(x):
        constant &= (part == x[0]).all(axis=0)
    return [
        len(x),
        x.shape[1],
        float(norms.min()),
        float(np.median(norms)),
        float(norms.max()),
        int(constant.sum()),
        shared_vectors(x),
        effective_rank(x[:: -(-len(x) // _SAMPLE)]),
    ]


def shared_vectors(x: Float[np.ndarray, "n dim"]) -> int:
    """How many rows are equal, bit for bit, to another row."""
    keys = np.array([hash(row.tobytes()) for row in x])
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return int((sizes[group] > 1).sum())


def effective_rank(x: Float[np.ndarray, "n dim"]) -> float:
    """How many directions the rows use: the exponential of the entropy of the singular values.

    The rows are centred first. Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.

    Args:
      x: a sample of the vectors.

    Returns:
      From 1 (one direction; 0 where all rows are equal) to `min(n - 1, dim)`.
    """
    wide = _wide(x).astype(np.float64)
    wide -= wide.mean(axis=0)
    gram = wide @ wide.T if len(wide) < wide.shape[1] else wide.T @ wide
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    if values.max(initial=0) < 1e-12:
        return 0.0
    p = values[values > values.max() * 1e-7] / values[values > values.max() * 1e-7].sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return [x[i : i + _SAMPLE] for i in range(0, len(x), _SAMPLE)]
