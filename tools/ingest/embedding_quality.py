"""Statistics of embeddings that reveal faulty encoders: collapse, copies, constant columns."""

import numpy as np
from jaxtyping import Float

HEADER = (
    "vectors", "dim", "norm min", "median", "max", "constant columns", "shared vectors",
    "effective rank",
)  # fmt: skip
_SAMPLE = 4096


def quality(x: Float[np.ndarray, "n dim"]) -> list[object]:
    """Computes the statistics named in `HEADER`.

    Args:
      x: Finite vectors of any floating dtype; may be a strided view of a file.

    Returns:
      Number of vectors and of columns; smallest, median and largest Euclidean norm; number of
      columns with a single value; number of vectors that occur more than once; effective rank.
    """
    norms = np.concatenate([np.linalg.norm(_float32(c), axis=1) for c in _chunks(x)])
    constant = np.ones(x.shape[1], bool)
    for chunk in _chunks(x):
        constant &= (chunk == x[0]).all(axis=0)
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
    """Returns the number of rows that equal another row, bit for bit."""
    keys = np.array([hash(row.tobytes()) for row in x])
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return int((sizes[group] > 1).sum())


def effective_rank(x: Float[np.ndarray, "n dim"]) -> float:
    """Computes the exponential of the entropy of the normalised singular values.

    The rows are centred first. The result is the number of directions that the rows use.

    Args:
      x: A sample of the vectors.

    Returns:
      A value from 1 (a single direction) to `min(n - 1, dim)`; 0 if all rows are equal.

    References:
      Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    centred = _float32(x).astype(np.float64)
    centred -= centred.mean(axis=0)
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    if values.max(initial=0) < 1e-12:
        return 0.0
    positive = values[values > values.max() * 1e-7]
    p = positive / positive.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _float32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _chunks(x: np.ndarray) -> list[np.ndarray]:
    return [x[i : i + _SAMPLE] for i in range(0, len(x), _SAMPLE)]
