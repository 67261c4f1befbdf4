"""PyTorch and safetensors: a matrix with ids, one vector per id, or the output of ESM."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.embedding_formats.arrays import Array, find_arrays, holds
from bridge_jax.data.embedding_formats.base import (
    DEFAULT,
    ID_BLOCK,
    EmbeddingBlock,
    EmbeddingFile,
    KeyedFile,
    ReadOptions,
    check_unpacked,
    check_vector_shape,
    file_state,
    named_errors,
    pooled,
    stack_vectors,
)
from bridge_jax.data.embedding_formats.detect import SAFETENSORS, Format
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.data.embedding_formats.npy import IdsBeside
from bridge_jax.errors import InputError

_MEAN, _PER_RESIDUE = "mean_representations", "representations"


class Tensor:
    """A tensor of a file, read in blocks of rows.

    Attributes:
      shape: Its shape.
      dtype: Its dtype as NumPy has it.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[slice], np.ndarray]
    ) -> None:
        self.shape, self.dtype, self.read = shape, dtype, read


class TensorFile(IdsBeside):
    """One tensor of embeddings; the ids are in the same file, or in `<stem>.ids.txt`."""

    def __init__(self, path: Path, x: Tensor, ids: list[str] | None, options: ReadOptions) -> None:
        """Checks the shapes.

        Args:
          path: The file.
          x: Embeddings.
          ids: Ids of the same file; None for those of the text file.
          options: How the file is read.
        """
        self._x, self._ids = x, ids
        if ids is None:
            self.open_ids(path, x.shape, options)
        else:
            self.path, self.fingerprint = path, file_state(path)
            if len(x.shape) != 2 or len(ids) != x.shape[0]:
                raise InputError(f"{path}: {len(ids)} ids but embeddings of shape {x.shape}")
            self.num_rows, self.dim = x.shape

    def id_blocks(self, start: int, stop: int, block_size: int) -> Iterator[list[str]]:
        if self._ids is None:
            yield from super().id_blocks(start, stop, block_size)
            return
        for first in range(start, stop, block_size):
            yield self._ids[first : min(first + block_size, stop)]

    def x_blocks(self, start: int, stop: int, block_size: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, block_size):
            if len(self._x.shape) == 1:
                yield self._x.read(slice(None))[None]
            else:
                yield self._x.read(slice(first, min(first + block_size, stop)))


def open_tensors(path: Path, found: Format, options: ReadOptions) -> EmbeddingFile:
    """Opens a `.pt`, `.pth` or `.safetensors` file.

    Args:
      path: The file: one tensor (with `<stem>.ids.txt`), a tensor and ids by name, one vector under
        the name of each id, or one output of ESM.
      found: Its format.
      options: How the file is read.

    Raises:
      InputError: The library is not installed, or the file does not hold embeddings.
    """
    with named_errors(path):
        if found is SAFETENSORS:
            tensors, lists = _safetensors(path), dict[str, list]()
        else:
            value = load(path, options)
            if isinstance(value, dict) and {_MEAN, _PER_RESIDUE} & value.keys():
                label, vector = _esm_vector(path, value, options)
                return KeyedFile(path, as_ids([label], str(path)), [vector.shape],
                                 lambda _: vector, options)  # fmt: skip
            tensors, lists = _tensors(path, value)
        for name, tensor in tensors.items():
            unpacked = int(np.prod(tensor.shape, dtype=object)) * tensor.dtype.itemsize
            check_unpacked(path, repr(name), unpacked, path.stat().st_size, options)
        if len(tensors) == 1 and not lists:
            ((name, only),) = tensors.items()
            is_beside = path.with_suffix(".ids.txt").is_file() or not options.needs_ids
            if is_beside or (len(only.shape) == 2 and only.shape[0] != 1 and not options.pool):
                if holds(only.dtype) != "float":
                    raise InputError(f"{path}: {name} does not hold floats; save it as float32")
                return TensorFile(path, only, None, options)
        arrays = {n: Array(t.shape, holds(t.dtype)) for n, t in tensors.items()}
        arrays |= {n: Array((len(v),), "id") for n, v in lists.items()}
        names = find_arrays(path, arrays, options)
        if names.x:
            ids: Any = lists.get(names.ids)
            if ids is None and names.ids:
                ids = tensors[names.ids].read(slice(None))
            texts = None if ids is None else as_ids(ids, f"{path}: {names.ids}")
            return TensorFile(path, tensors[names.x], texts, options)
    ordered = list(tensors.values())
    return KeyedFile(
        path,
        as_ids(list(tensors), str(path)),
        [t.shape for t in ordered],
        lambda i: ordered[i].read(slice(None)),
        options,
    )


class EsmFolder(EmbeddingFile):
    """The output folder of ESM's `extract.py`: one `.pt` file per sequence, `label` as its id."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Lists the files and reads the first one.

        Args:
          path: The folder; labels with a slash make subfolders.
          options: How the files are read.

        Raises:
          InputError: There is no such file, or torch is not installed.
        """
        self.path, self._options = path, options
        self._paths = sorted(path.rglob("*.pt"))
        if not self._paths:
            raise InputError(f"{path}: a folder without .pt files of ESM; give a file")
        self.num_rows = len(self._paths)
        self.dim = len(self._read(0)[1])
        self.fingerprint = [file_state(p) for p in self._paths]

    def ids(self) -> Iterator[list[str]]:
        for start in range(0, self.num_rows, ID_BLOCK):
            rows = range(start, min(start + ID_BLOCK, self.num_rows))
            yield [self._read(i)[0] for i in rows]

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        for first_row in range(start, stop, block_size):
            rows = range(first_row, min(first_row + block_size, stop))
            ids, vectors = zip(*(self._read(i) for i in rows), strict=True)
            x, faults = stack_vectors(vectors, dim or self.dim)
            yield EmbeddingBlock(first_row, list(ids), x, faults)

    def _read(self, i: int) -> tuple[str, np.ndarray]:
        path = self._paths[i]
        with named_errors(path):
            value = load(path, self._options)
            if not isinstance(value, dict) or not {_MEAN, _PER_RESIDUE} & value.keys():
                raise InputError(
                    f"{path}: is not an output of ESM (label, {_MEAN}); keep such files elsewhere"
                )
            label, vector = _esm_vector(path, value, self._options)
            check_vector_shape(path, label, vector.shape, self._options)
            return as_ids([label], str(path))[0], pooled(vector)


def _esm_vector(
    path: Path, value: Mapping[str, Any], options: ReadOptions
) -> tuple[str, np.ndarray]:
    """Returns the label and the representation of the layer, per sequence or else per residue."""
    if not isinstance(value.get("label"), str):
        raise InputError(f"{path}: has no text 'label', the id of the sequence")
    layers = value.get(_MEAN) or value.get(_PER_RESIDUE)
    if not isinstance(layers, dict) or not layers:
        raise InputError(f"{path}: has no {_MEAN}; run ESM with --include mean")
    numbers = ", ".join(map(str, layers))
    if options.layer is None and len(layers) > 1:
        raise InputError(f"{path}: has the layers {numbers}; pass --layer {list(layers)[-1]}")
    layer = next(iter(layers)) if options.layer is None else options.layer
    if layer not in layers:
        raise InputError(f"{path}: has no layer {layer}, it has: {numbers}; pass another --layer")
    tensor = _of_torch(path, layers[layer])
    if holds(tensor.dtype) != "float":
        raise InputError(f"{path}: layer {layer} does not hold floats")
    vector = tensor.read(slice(None))
    check_unpacked(path, f"layer {layer}", vector.nbytes, path.stat().st_size, options)
    return value["label"], vector


def load(path: Path, options: ReadOptions = DEFAULT) -> Any:
    """Loads a PyTorch file; nothing but tensors and plain values.

    Args:
      path: The file.
      options: Its `max_unpacked` limits what a compressed file may unpack to.

    Raises:
      InputError: torch is not installed, or the file is damaged or holds other objects.
    """
    try:
        import torch
    except ImportError as e:
        raise InputError(
            f"{path}: PyTorch files need torch; install it with pip install 'bridge_jax[torch]'"
        ) from e
    _check_archive(path, options)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as e:  # a damaged file fails in many ways
        raise InputError(
            f"{path}: holds Python objects besides tensors, or is damaged; load it where you trust "
            "it and save {id: tensor} with torch.save"
        ) from e


def _check_archive(path: Path, options: ReadOptions) -> None:
    """Checks the checksums of a zip archive, which PyTorch writes but does not compare."""
    if not zipfile.is_zipfile(path):
        return  # as PyTorch before 1.6 wrote
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            name = repr(member.filename)
            check_unpacked(path, name, member.file_size, member.compress_size, options)
        # All are 0 after torch.serialization.set_crc32_options(False).
        if any(m.CRC for m in members) and (bad := archive.testzip()):
            raise InputError(f"{path}: is damaged: {bad} has another checksum; restore the file")


def _tensors(path: Path, value: Any) -> tuple[dict[str, Tensor], dict[str, list]]:
    """Returns the tensors and the lists of ids of a loaded value."""
    if hasattr(value, "detach"):
        return {"x": _of_torch(path, value)}, {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}; save a tensor or {{id: tensor}}")
    tensors: dict[str, Tensor] = {}
    lists: dict[str, list] = {}
    for key, item in value.items():
        if hasattr(item, "detach"):
            if str(key) in tensors:
                raise InputError(f"{path}: two tensors are called {str(key)!r}; keep one")
            tensors[str(key)] = _of_torch(path, item)
        elif isinstance(item, list | tuple) and all(isinstance(i, str | int) for i in item):
            lists[str(key)] = list(item)
        elif not isinstance(item, str | int | float | bool | None):
            raise InputError(
                f"{path}: {str(key)!r} is a {type(item).__name__}; save {{id: tensor}}"
            )
    return tensors, lists


def _of_torch(path: Path, tensor: Any) -> Tensor:
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise InputError(f"{path}: holds a tensor that is not dense; save tensor.to_dense()")
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        bits = tensor.view(torch.int16).numpy()
        dtype = np.dtype(ml_dtypes.bfloat16)
        return Tensor(bits.shape, dtype, lambda s: np.ascontiguousarray(bits[s]).view(dtype))
    array = tensor.numpy()
    return Tensor(array.shape, array.dtype, lambda s: array[s])


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        import ml_dtypes  # noqa: F401  names bfloat16
        from safetensors import safe_open
    except ImportError as e:
        raise InputError(
            f"{path}: needs safetensors; install it with pip install 'bridge_jax[hub]'"
        ) from e
    file: Any = safe_open(path, framework="numpy")
    return {name: _of_safetensors(file.get_slice(name)) for name in list(file.keys())}


def _of_safetensors(view: Any) -> Tensor:
    shape = tuple(view.get_shape())
    if not shape:
        return Tensor((), np.dtype(np.int64), lambda _: np.zeros((), np.int64))
    return Tensor(shape, view[0:1].dtype, lambda s: view[:] if s == slice(None) else view[s])
