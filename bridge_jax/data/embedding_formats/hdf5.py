"""HDF5: one dataset per protein, as UniProt and bio_embeddings write it, or a matrix with ids."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.arrays import Array, find_arrays, holds
from bridge_jax.data.embedding_formats.base import (
    EmbeddingFile,
    KeyedFile,
    MatrixFile,
    ReadOptions,
    check_unpacked,
    checked_shape,
    file_state,
    named_errors,
)
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.errors import InputError

_ORIGINAL_ID = "original_id"  # bio_embeddings names a dataset by a number and keeps the id here
_FEW = 32  # datasets among which a matrix and its ids are looked for


def open_hdf5(path: Path, options: ReadOptions) -> EmbeddingFile:
    """Opens an HDF5 file.

    Args:
      path: The file: one dataset per id (its name, or its attribute `original_id`), one matrix with
        ids, or AnnData.
      options: How the file is read.

    Raises:
      InputError: h5py is not installed, or the file does not hold embeddings.
    """
    h5py = import_h5py(path)
    with named_errors(path):
        file = h5py.File(path, "r")
        try:
            return _open(path, h5py, file, options)
        except BaseException:
            file.close()
            raise


def _open(path: Path, h5py: Any, file: Any, options: ReadOptions) -> EmbeddingFile:
    if path.suffix.lower() == ".h5ad" or file.attrs.get("encoding-type") == "anndata":
        from bridge_jax.data.embedding_formats.h5ad import H5adFile

        return H5adFile(path, file, options)
    arrays: dict[str, Array] = {}
    originals: list[Any] = []
    for name, dataset in _datasets(path, h5py, file, ""):  # none is kept: there may be millions
        check_dataset(path, dataset, options)
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        arrays[name] = Array(dataset.shape or (), "id" if is_text else holds(dataset.dtype))
        originals.append(dataset.attrs.get(_ORIGINAL_ID))
    chosen = bool(options.key or options.id_key)
    are_floats = all(a.holds == "float" for a in arrays.values())
    if chosen or not arrays or (len(arrays) <= _FEW and not are_floats):
        names = find_arrays(path, arrays, options)
        if names.x:
            return Hdf5Matrix(path, file[names.x], file[names.ids] if names.ids else None, options)
    elif len(arrays) == 1:
        if not options.needs_ids:
            return Hdf5Matrix(path, file[next(iter(arrays))], None, options)
        if originals[0] is None:
            find_arrays(path, arrays, options)  # raises for a matrix without ids
    for name, array in arrays.items():
        if array.holds != "float":
            raise InputError(
                f"{path}: dataset {name!r} does not hold floats; expected one vector per id, or a "
                f"matrix with ids, which is chosen with --embedding-key"
            )
    ids = _ids_of_names(path, list(arrays), originals)
    names_of_rows = list(arrays)
    shapes = [a.shape for a in arrays.values()]
    return KeyedFile(path, ids, shapes, lambda i: file[names_of_rows[i]][()], options)


def _ids_of_names(path: Path, names: list[str], originals: list[Any]) -> list[str]:
    """Returns the ids of datasets: `original_id`, the only group, or the name."""
    if any(i is not None for i in originals):
        if missing := [n for n, i in zip(names, originals, strict=True) if i is None]:
            raise InputError(f"{path}: dataset {missing[0]!r} has no attribute {_ORIGINAL_ID}")
        return as_ids([_scalar(i) for i in originals], f"{path}: {_ORIGINAL_ID}")
    last = Counter(n.rpartition("/")[2] for n in names)
    if len(names) > 1 and len(last) == 1 and all("/" in n for n in names):
        names = [n.rpartition("/")[0] for n in names]  # <id>/embedding
    elif any("/" in n and last[n.rpartition("/")[2]] > 1 for n in names):
        raise InputError(
            f"{path}: has several datasets per group ({', '.join(list(last)[:4])}); keep the one "
            "with the embeddings"
        )
    return as_ids(names, str(path))


def _scalar(value: Any) -> Any:
    """Returns a NumPy scalar, such as the number of an attribute, as a value of Python."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value


class Hdf5Matrix(MatrixFile):
    """One dataset of embeddings and one of ids."""

    def __init__(self, path: Path, x: Any, ids: Any, options: ReadOptions) -> None:
        """Checks the shapes.

        Args:
          path: The file.
          x: Dataset of the embeddings.
          ids: Dataset of the ids; None if there are none.
          options: How the file is read.
        """
        self.path, self._x, self._ids = path, x, ids
        check_dataset(path, x, options)
        shape = (1, *x.shape) if len(x.shape) == 1 else x.shape
        self.num_rows, self.dim = checked_shape(path, shape, len(ids) if ids else shape[0])
        self.fingerprint = file_state(path)

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        with named_errors(self.path):
            for first in range(start, stop, block_size):
                last = min(first + block_size, stop)
                if self._ids is None:
                    yield [str(i) for i in range(first, last)]
                else:
                    yield as_ids(self._ids[first:last], f"{self.path}: {self._ids.name[1:]}")

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, block_size):
            last = min(first + block_size, stop)
            yield self._x[()][None] if len(self._x.shape) == 1 else self._x[first:last]


def check_dataset(path: Path, dataset: Any, options: ReadOptions) -> None:
    """Refuses a dataset that claims far more data than the file holds, or data of other files."""
    properties = dataset.id.get_create_plist()
    if properties.get_external_count() or dataset.is_virtual:
        raise InputError(f"{path}: {dataset.name!r} lies in another file; write it into this one")
    unpacked = dataset.size * dataset.dtype.itemsize
    check_unpacked(path, repr(dataset.name), unpacked, dataset.id.get_storage_size(), options)


def _datasets(path: Path, h5py: Any, group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields all datasets below a group by their path."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {prefix + name!r} is a link; write the data in its place")
        item = group[name]
        if isinstance(item, h5py.Group) and "pandas_type" in item.attrs:
            raise InputError(f"{path}: is a table of pandas; save it with df.to_parquet")
        if isinstance(item, h5py.Group):
            yield from _datasets(path, h5py, item, f"{prefix}{name}/")
        elif isinstance(item, h5py.Dataset):
            yield prefix + name, item


def import_h5py(path: Path) -> Any:
    """Imports and returns `h5py`.

    Args:
      path: File that is read, for the message.

    Raises:
      InputError: It is not installed.
    """
    try:
        import h5py
    except ImportError as e:
        raise InputError(
            f"{path}: HDF5 needs h5py; install it with pip install 'bridge_jax[hdf5]'"
        ) from e
    return h5py
