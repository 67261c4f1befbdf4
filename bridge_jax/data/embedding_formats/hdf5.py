"""HDF5: one dataset per protein, as UniProt and bio_embeddings write it, or a matrix with ids."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.arrays import find_arrays
from bridge_jax.data.embedding_formats.base import (
    EmbeddingFile,
    KeyedFile,
    MatrixFile,
    ReadOptions,
    checked_shape,
    file_state,
    named_errors,
)
from bridge_jax.data.embedding_formats.hdf5_process import Hdf5File, Hdf5Object
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
    with named_errors(path):
        return _open(Hdf5File(path), options)


def _open(file: Hdf5File, options: ReadOptions) -> EmbeddingFile:
    path, root = file.path, file.objects[""]
    if path.suffix.lower() == ".h5ad" or root.attributes.get("encoding-type") == "anndata":
        from bridge_jax.data.embedding_formats.h5ad import H5adFile

        return H5adFile(file, options)
    datasets = _datasets(file)
    for dataset in datasets.values():
        file.check(dataset, options)
    _check_positions(path, datasets.values())
    arrays = {name: dataset.array for name, dataset in datasets.items()}
    originals = [dataset.attributes.get(_ORIGINAL_ID) for dataset in datasets.values()]
    chosen = bool(options.key or options.id_key)
    are_floats = all(a.holds == "float" for a in arrays.values())
    if chosen or not arrays or (len(arrays) <= _FEW and not are_floats):
        names = find_arrays(path, arrays, options)
        if names.x:
            return Hdf5Matrix(file, datasets[names.x], datasets.get(names.ids))
    elif len(arrays) == 1:
        if not options.needs_ids:
            return Hdf5Matrix(file, next(iter(datasets.values())), None)
        if originals[0] is None:
            find_arrays(path, arrays, options)  # raises for a matrix without ids
    for name, array in arrays.items():
        if array.holds != "float":
            raise InputError(
                f"{path}: dataset {name!r} does not hold floats; expected one vector per id, or a "
                f"matrix with ids, which is chosen with --embedding-key"
            )
    ids = _ids_of_names(path, list(arrays), originals)
    of_rows = list(datasets.values())
    shapes = [a.shape for a in arrays.values()]
    return KeyedFile(path, ids, shapes, lambda i: file.read(of_rows[i]), options)


def _datasets(file: Hdf5File) -> dict[str, Hdf5Object]:
    """Returns all datasets by name."""
    for item in file.objects.values():
        if item.kind == "link":
            raise InputError(f"{file.path}: {item.name!r} is a link; write the data in its place")
        if "pandas_type" in item.attributes and item.kind == "group":
            raise InputError(f"{file.path}: is a table of pandas; save it with df.to_parquet")
    return {n: item for n, item in file.objects.items() if item.kind == "dataset"}


def _check_positions(path: Path, datasets: Iterable[Hdf5Object]) -> None:
    """Refuses two datasets with the same data, as in a file whose index is damaged."""
    owner: dict[int, str] = {}
    for dataset in datasets:
        first = owner.setdefault(dataset.position, dataset.name)
        if dataset.position >= 0 and first != dataset.name:
            raise InputError(
                f"{path}: {first!r} and {dataset.name!r} are the same data, so the file is damaged "
                "or has hard links; write each dataset by itself"
            )


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

    def __init__(self, file: Hdf5File, x: Hdf5Object, ids: Hdf5Object | None) -> None:
        """Checks the shapes.

        Args:
          file: The file.
          x: Dataset of the embeddings.
          ids: Dataset of the ids; None if there are none.
        """
        self.path, self._file, self._x, self._ids = file.path, file, x, ids
        shape = x.array.shape
        shape = (1, *shape) if len(shape) == 1 else shape
        num_ids = ids.array.shape[0] if ids else shape[0] if shape else 0
        self.num_rows, self.dim = checked_shape(file.path, shape, num_ids)
        self.fingerprint = file_state(file.path)

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        with named_errors(self.path):
            for first in range(start, stop, block_size):
                last = min(first + block_size, stop)
                if self._ids is None:
                    yield [str(i) for i in range(first, last)]
                else:
                    values = self._file.read(self._ids, first, last)
                    yield as_ids(values, f"{self.path}: {self._ids.name}")

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, block_size):
            if len(self._x.array.shape) == 1:
                yield self._file.read(self._x)[None]
            else:
                yield self._file.read(self._x, first, min(first + block_size, stop))
