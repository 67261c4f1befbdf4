"""AnnData: `X`, a layer or an entry of `obsm`, with `obs_names` as ids."""

import math
from collections.abc import Iterator
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
from bridge_jax.data.embedding_formats.hdf5_process import Hdf5File
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.errors import InputError, unknown


class H5adFile(MatrixFile):
    """Observations of an `.h5ad` file."""

    def __init__(self, file: Hdf5File, options: ReadOptions) -> None:
        """Finds the matrix and the ids.

        Args:
          file: The file.
          options: Its `key` is `X` (default), `obsm/<name>`, `<name>` or `layers/<name>`.

        Raises:
          InputError: The matrix is missing or cannot be used.
        """
        self.path, self._file = file.path, file
        path = file.path
        key = options.key or _default_key(file)
        keys = [
            *(["X"] if "X" in file.objects else []),
            *file.children("obsm"),
            *file.children("layers"),
        ]
        key = f"obsm/{key}" if f"obsm/{key}" in keys else key
        if key not in keys:
            raise unknown("array", key, keys, str(path))
        self._ids = _index(file, options)
        self._sparse: Any = None
        self._x = file.objects[key]
        encoding = str(self._x.attributes.get("encoding-type", ""))
        if encoding in ("csr_matrix", "csc_matrix"):
            shape = tuple(int(n) for n in self._x.attributes["shape"])
            unpacked = math.prod(shape) * 4
            check_unpacked(path, key, unpacked, path.stat().st_size, options)
            self._sparse = _read_sparse(file, key, encoding, shape, options)
            dtype = self._sparse.dtype
        elif self._x.kind == "dataset":
            shape, dtype = self._x.array.shape, np.dtype(self._x.dtype)
            file.check(self._x, options)
        else:
            raise InputError(f"{path}: {key} is stored as {encoding or 'a group'}; save an array")
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
                last = min(first + block_size, stop)
                if self._sparse is None:
                    yield self._file.read(self._x, first, last)
                else:
                    yield self._sparse[first:last].toarray()


def _default_key(file: Hdf5File) -> str:
    obsm, x = file.children("obsm"), file.objects.get("X")
    if x is not None and x.attributes.get("encoding-type") != "null":
        return "X"
    if len(obsm) == 1:
        return obsm[0]
    if not obsm:
        raise InputError(f"{file.path}: has neither X nor obsm")
    names = ", ".join(obsm[:5])
    raise InputError(f"{file.path}: has no X but {names}; pass --embedding-key {obsm[0]}")


def _index(file: Hdf5File, options: ReadOptions) -> list[str]:
    """Reads `obs_names`, or another column of `obs`."""
    path, obs = file.path, file.objects.get("obs")
    if obs is None or "_index" not in obs.attributes:
        raise InputError(f"{path}: has no obs_names; write it again with anndata 0.7 or newer")
    name = f"obs/{options.id_key or obs.attributes['_index']}"
    column = file.objects.get(name)
    if column is None:
        columns = [n.removeprefix("obs/") for n in file.children("obs")]
        raise unknown("column", name.removeprefix("obs/"), columns, f"{path}: obs")
    if column.kind == "dataset":
        return _ids(file, name, options)
    if f"{name}/categories" in file.objects:
        codes = _read(file, f"{name}/codes", options).tolist()
        categories = _ids(file, f"{name}/categories", options)
        return [categories[code] if code >= 0 else "" for code in codes]
    if f"{name}/values" in file.objects:
        return _ids(file, f"{name}/values", options)
    raise InputError(f"{path}: {name} is not text; save it as text")


def _ids(file: Hdf5File, name: str, options: ReadOptions) -> list[str]:
    return as_ids(_read(file, name, options), f"{file.path}: {name}")


def _read(file: Hdf5File, name: str, options: ReadOptions) -> Any:
    """Reads a whole dataset."""
    file.check(file.objects[name], options)
    return file.read(file.objects[name])


def _read_sparse(
    file: Hdf5File, key: str, encoding: str, shape: tuple[int, ...], options: ReadOptions
) -> Any:
    """Reads a sparse matrix as CSR; checks its indices."""
    from scipy import sparse  # type: ignore[import-untyped]

    parts = tuple(_read(file, f"{key}/{name}", options) for name in ("data", "indices", "indptr"))
    make = sparse.csr_matrix if encoding == "csr_matrix" else sparse.csc_matrix
    matrix = make(parts, shape=shape)
    matrix.check_format(full_check=True)
    return matrix.tocsr()
