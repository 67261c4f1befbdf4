"""AnnData: `X`, a layer or an entry of `obsm`, with `obs_names` as ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.base import (
    MatrixFile,
    ReadOptions,
    check_unpacked,
    checked_shape,
    file_state,
    named_errors,
)
from bridge_jax.data.embedding_formats.hdf5 import check_dataset
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.errors import InputError, unknown


class H5adFile(MatrixFile):
    """Observations of an `.h5ad` file."""

    def __init__(self, path: Path, file: Any, options: ReadOptions) -> None:
        """Finds the matrix and the ids.

        Args:
          path: The file.
          file: The same, opened by h5py.
          options: Its `key` is `X` (default), `obsm/<name>`, `<name>` or `layers/<name>`.

        Raises:
          InputError: The matrix is missing or cannot be used.
        """
        self.path = path
        key = options.key or _default_key(path, file)
        keys = [
            *(["X"] if "X" in file else []),
            *_children(file, "obsm"),
            *_children(file, "layers"),
        ]
        key = f"obsm/{key}" if f"obsm/{key}" in keys else key
        if key not in keys:
            raise unknown("array", key, keys, str(path))
        self._ids = _index(path, file, options.id_key)
        self._sparse: Any = None
        self._x = file[key]
        encoding = str(self._x.attrs.get("encoding-type", ""))
        if encoding in ("csr_matrix", "csc_matrix"):
            shape = tuple(int(n) for n in self._x.attrs["shape"])
            for part in ("data", "indices", "indptr"):
                check_dataset(path, self._x[part], options)
            unpacked = int(np.prod(shape, dtype=object)) * 4
            check_unpacked(path, key, unpacked, path.stat().st_size, options)
            self._sparse = _read_sparse(self._x, encoding, shape)
        elif hasattr(self._x, "shape"):
            shape = self._x.shape
            check_dataset(path, self._x, options)
        else:
            raise InputError(f"{path}: {key} is stored as {encoding or 'a group'}; save an array")
        dtype = (self._x if self._sparse is None else self._sparse).dtype
        if dtype.kind != "f":
            raise InputError(f"{path}: {key} holds {dtype}, not floats; save it as float32")
        self.num_rows, self.dim = checked_shape(path, shape, len(self._ids))
        self.fingerprint = file_state(path)

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        for first in range(start, stop, block_size):
            yield self._ids[first : min(first + block_size, stop)]

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        with named_errors(self.path):
            for first in range(start, stop, block_size):
                rows = slice(first, min(first + block_size, stop))
                if self._sparse is None:
                    yield self._x[rows]
                else:
                    yield self._sparse[rows].toarray()


def _default_key(path: Path, file: Any) -> str:
    obsm = _children(file, "obsm")
    if "X" in file and file["X"].attrs.get("encoding-type") != "null":
        return "X"
    if len(obsm) == 1:
        return obsm[0]
    if not obsm:
        raise InputError(f"{path}: has neither X nor obsm")
    raise InputError(f"{path}: has no X but {', '.join(obsm[:5])}; pass --embedding-key {obsm[0]}")


def _children(file: Any, group: str) -> list[str]:
    return [f"{group}/{name}" for name in file[group]] if group in file else []


def _index(path: Path, file: Any, id_key: str) -> list[str]:
    """Reads `obs_names`, or another column of `obs`."""
    obs = file.get("obs")
    if obs is None or "_index" not in obs.attrs:
        raise InputError(f"{path}: has no obs_names; write it again with anndata 0.7 or newer")
    name = id_key or obs.attrs["_index"]
    if name not in obs:
        raise unknown("column", str(name), list(obs), f"{path}: obs")
    column = obs[name]
    if hasattr(column, "shape"):
        return as_ids(column[()], f"{path}: obs/{name}")
    if "categories" in column:
        codes, categories = column["codes"][()], as_ids(column["categories"][()], str(path))
        return [categories[code] if code >= 0 else "" for code in codes.tolist()]
    if "values" in column:
        return as_ids(column["values"][()], f"{path}: obs/{name}")
    raise InputError(f"{path}: obs/{name} is not text; save it as text")


def _read_sparse(group: Any, encoding: str, shape: tuple[int, ...]) -> Any:
    """Reads a sparse matrix as CSR; checks its indices."""
    from scipy import sparse  # type: ignore[import-untyped]

    parts = tuple(group[name][()] for name in ("data", "indices", "indptr"))
    make = sparse.csr_matrix if encoding == "csr_matrix" else sparse.csc_matrix
    matrix = make(parts, shape=shape)
    matrix.check_format(full_check=True)
    return matrix.tocsr()
