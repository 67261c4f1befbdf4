"""Which of several named arrays are the embeddings and the ids."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge_jax.data.embedding_formats.base import ReadOptions
from bridge_jax.errors import InputError, unknown

EMBEDDING_NAMES = ("x", "embedding", "embeddings", "emb", "embs", "vectors", "vector", "features")
ID_NAMES = (
    "id", "ids", "node_id", "node_ids", "name", "names", "accession", "accessions", "index",
    "key", "keys", "label", "labels",
)  # fmt: skip


class Array(NamedTuple):
    """Shape of a named array, and what it can hold: `float`, `id`, `object` or `other`."""

    shape: tuple[int, ...]
    holds: str


class ArrayNames(NamedTuple):
    """Arrays of a file: one matrix with ids, or one array per id.

    Attributes:
      x: Name of the matrix; empty if each id has an array.
      ids: Name of the array of ids; empty if there is none.
    """

    x: str
    ids: str


def holds(dtype: np.dtype) -> str:
    """Returns what an array of a dtype can hold; see `Array`."""
    if dtype.hasobject:
        return "object"
    if dtype.kind == "f" or dtype.name == "bfloat16":
        return "float"
    return "id" if dtype.kind in "SUiu" else "other"


def find_arrays(path: Path, arrays: Mapping[str, Array], options: ReadOptions) -> ArrayNames:
    """Finds the embeddings and the ids among the arrays of a file.

    Args:
      path: The file, for messages.
      arrays: All its arrays by name.
      options: Its `key` and `id_key` decide if they are given.

    Raises:
      InputError: There is no matrix of embeddings with ids, or more than one.
    """
    names = list(arrays)
    for key in filter(None, (options.key, options.id_key)):
        if key not in arrays:
            raise unknown("array", key, names, str(path))
    if not arrays:
        raise InputError(f"{path}: holds no array")
    if not options.key and not options.id_key and _has_one_array_per_id(arrays, options):
        return ArrayNames("", "")
    x = options.key or _find_matrix(path, arrays, options)
    if arrays[x].holds == "object":
        raise InputError(f"{path}: {x} is an object array; save np.stack(x).astype('float32')")
    if arrays[x].holds != "float":
        raise InputError(f"{path}: {x} does not hold floats; save x.astype('float32')")
    ids = options.id_key or _find_ids(path, arrays, x, options)
    if ids and arrays[ids].holds == "object":
        raise InputError(
            f"{path}: {ids} is an object array (pandas writes such); save np.array({ids}, str)"
        )
    if ids and len(arrays[ids].shape) != 1:
        raise InputError(f"{path}: {ids} of shape {arrays[ids].shape}; they must be one per row")
    return ArrayNames(x, ids)


def _has_one_array_per_id(arrays: Mapping[str, Array], options: ReadOptions) -> bool:
    if any(n.lower() in (*EMBEDDING_NAMES, *ID_NAMES) for n in arrays):
        return False
    if any(a.holds != "float" or len(a.shape) not in (1, 2) for a in arrays.values()):
        return False
    vectors = all(len(a.shape) == 1 or a.shape[0] == 1 for a in arrays.values())
    one_matrix = len(arrays) == 1 and not options.pool
    return (vectors or not one_matrix) and (options.needs_ids or len(arrays) > 1)


def _find_matrix(path: Path, arrays: Mapping[str, Array], options: ReadOptions) -> str:
    ndims = (2,) if options.needs_ids else (1, 2)
    matrices = [n for n, a in arrays.items() if a.holds == "float" and len(a.shape) in ndims]
    named = [n for n in matrices if n.lower() in EMBEDDING_NAMES]
    for found in ([n for n in named if n == "x"], named, matrices):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{path}: {', '.join(found[:5])} may all be the embeddings; pass --embedding-key "
                f"{found[0]}"
            )
    named = [n for n in arrays if n.lower() in EMBEDDING_NAMES]
    if len(named) == 1:
        array = arrays[named[0]]
        if array.holds == "float":
            raise InputError(f"{path}: embeddings {named[0]} of shape {array.shape}; save [n, dim]")
        return named[0]
    raise InputError(
        f"{path}: no array 'x' of embeddings [n, dim]; it has: {', '.join(list(arrays)[:8])}; it "
        "needs `ids` and `x`"
    )


def _find_ids(path: Path, arrays: Mapping[str, Array], x: str, options: ReadOptions) -> str:
    others = {n: a for n, a in arrays.items() if n != x}
    named = [n for n in others if n.lower() in ID_NAMES]
    by_type = [
        n
        for n, a in others.items()
        if a.holds in ("id", "object") and a.shape[:1] == arrays[x].shape[:1] and len(a.shape) == 1
    ]
    for found in ([n for n in named if n in ("ids", "id")], named, by_type):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{path}: {', '.join(found[:5])} may all be the ids; pass --id-key {found[0]}"
            )
    if not options.needs_ids:
        return ""
    raise InputError(
        f"{path}: no array 'ids' beside {x!r}; it needs `ids` and `x`, or one vector under the "
        "name of each id"
    )
