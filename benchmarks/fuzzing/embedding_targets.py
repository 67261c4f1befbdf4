"""Embedding files to damage: one target per format of `bridge_jax.data.embedding_formats`."""

import io
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.case import ACCOUNTED, OTHER_VALUES, SAME, Factory, Target
from bridge_jax.data.embedding_files import ReadOptions, open_embedding_file
from bridge_jax.data.embedding_formats.ids import first_duplicate
from bridge_jax.errors import InputError

IDS = tuple(f"P{i:05}" for i in range(20))
OTHER_IDS = tuple(f"Q{i:05}" for i in range(20))
X, OTHER_X = np.random.default_rng(0).normal(size=(2, 20, 6)).astype(np.float32)
_BLOCK = 7  # rows; several blocks per file

Content = tuple[list[str], np.ndarray, dict[int, str]]


def read_all(path: Path, options: ReadOptions) -> Content:
    """Reads a file as an import does; an id that occurs twice is refused.

    Returns:
      The ids, the vectors, and why rows cannot be used.
    """
    file = open_embedding_file(path, options)
    dim = file.dim or file.first_dim()
    ids = [i for block in file.ids() for i in block]
    rows: list[np.ndarray] = []
    faults: dict[int, str] = {}
    block_ids: list[str] = []
    for block in file.blocks(0, file.num_rows, _BLOCK, dim):
        assert len(block.ids) == len(block.x), "ids and vectors of different numbers"
        assert block.x.shape[1:] == (dim,), "vectors of another dimension"
        faults |= {block.first_row + i: why for i, why in block.faults.items()}
        block_ids += block.ids
        rows.append(block.x)
    assert ids == block_ids, "other ids in blocks"
    if len(ids) != file.num_rows:
        raise AssertionError(f"{len(ids)} ids of {file.num_rows} rows")
    if repeated := first_duplicate(ids):
        raise InputError(f"{path}: {repeated[0]!r} occurs twice")
    return ids, np.concatenate(rows) if rows else np.zeros((0, dim), np.float32), faults


def binary_target(
    path: Path,
    write: Callable[[Path, tuple[str, ...], np.ndarray], None],
    options: ReadOptions,
    has_checksum: bool,
    may_exchange: bool = False,
) -> Target:
    """Writes a binary file and returns its target; its reader compares bit by bit.

    Args:
      path: The file.
      write: Writes ids and vectors.
      options: How the file is read.
      has_checksum: See `Target`.
      may_exchange: Whether each vector has its own description in the file, so that two of them can
        change places unnoticed.
    """
    write(path, OTHER_IDS, OTHER_X)
    other, other_content = path.read_bytes(), read_all(path, options)
    write(path, IDS, X)
    valid, content = path.read_bytes(), read_all(path, options)

    def read(raw: bytes) -> str:
        found = read_all(path, options)
        if _equal(found, other_content):
            return ACCOUNTED
        if _equal(found, content):
            return SAME
        assert not has_checksum, "other content"
        _check_moves(found, content, raw, valid, may_exchange)
        return OTHER_VALUES

    return Target(path, valid, other, read, has_checksum)


def _equal(a: Content, b: Content) -> bool:
    same_x = a[1].shape == b[1].shape and a[1].tobytes() == b[1].tobytes()
    return a[0] == b[0] and same_x and not a[2]


def _check_moves(
    found: Content, content: Content, raw: bytes, valid: bytes, may_exchange: bool
) -> None:
    """Checks that no id has another row's vector, unless the bytes of one of them were changed."""
    times = Counter(map(bytes, found[1]))
    row_of_vector = {v.tobytes(): i for i, v in enumerate(content[1])}
    row_of_id = {name: i for i, name in enumerate(content[0])}

    def is_untouched(part: bytes) -> bool:
        at = valid.find(part)
        return at >= 0 and raw[at : at + len(part)] == part

    for row, (name, vector) in enumerate(zip(found[0], found[1], strict=True)):
        i, j = row_of_id.get(name, -1), row_of_vector.get(vector.tobytes(), -1)
        if (
            row in found[2]
            or i < 0
            or j < 0
            or i == j
            or (may_exchange and times[bytes(vector)] == 1)
        ):
            continue
        whole = all(
            is_untouched(content[1][k].tobytes()) and is_untouched(content[0][k].encode())
            for k in (i, j)
        )
        assert not whole, f"{name} has the vector of {content[0][j]}"


def _npz(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    np.savez(path, ids=np.array(ids), x=x)


def _npz_keyed(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    np.savez_compressed(path, **dict(zip(ids, x, strict=True)))


def _npy(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    np.save(path, x)
    path.with_suffix(".ids.txt").write_text("\n".join(IDS) + "\n")


def _parquet_wide(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    import pandas as pd

    pd.DataFrame(x, index=list(ids)).rename(columns=str).to_parquet(path)


def _parquet_lists(path: Path, ids: tuple[str, ...], x: np.ndarray, checksum: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": list(ids), "embedding": list(x)})
    pq.write_table(table, path, write_page_checksum=checksum)


def _hdf5_keyed(path: Path, ids: tuple[str, ...], x: np.ndarray, latest: bool) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest" if latest else "earliest") as file:
        for name, vector in zip(ids, x, strict=True):
            file[name] = vector


def _hdf5_matrix(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["ids"] = [name.encode() for name in ids]
        file.create_dataset("x", data=x, chunks=(8, 6), compression="gzip", shuffle=True)


def _h5ad(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    """Writes what AnnData 0.12 writes."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        file["X"] = x
        file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        obs = file.create_group("obs")
        obs.attrs.update(
            {"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"}
        )
        obs["_index"] = list(ids)


def _torch(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    import torch

    torch.save({"ids": list(ids), "x": torch.tensor(x)}, path)


def _esm(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    import torch

    layers = {33: torch.tensor(x[0])}
    torch.save({"label": ids[0], "mean_representations": layers}, path)


def _safetensors(path: Path, ids: tuple[str, ...], x: np.ndarray) -> None:
    from safetensors.numpy import save_file

    save_file(dict(zip(ids, x, strict=True)), path)


def _esm_target(folder: Path) -> Target:
    """Returns one file of a folder of ESM; the reader reads the folder."""
    outputs = folder / "esm"
    outputs.mkdir(exist_ok=True)
    _esm(outputs / "a.pt", IDS[1:], X[1:])
    target = binary_target(outputs / "b.pt", _esm, ReadOptions(), True)
    content = read_all(outputs, ReadOptions())
    _esm(outputs / "b.pt", OTHER_IDS, OTHER_X)
    other = read_all(outputs, ReadOptions())

    def read(raw: bytes) -> str:
        found = read_all(outputs, ReadOptions())
        if _equal(found, other):
            return ACCOUNTED
        assert _equal(found, content), "other content"
        return SAME

    return Target(target.path, target.valid, target.other, read)


def _ids_target(folder: Path) -> Target:
    """Returns the text file of ids beside a matrix in npy."""
    path = folder / "beside.npy"
    _npy(path, IDS, X)
    ids_path = path.with_suffix(".ids.txt")
    valid, other = ("".join(f"{n}\n" for n in names).encode() for names in (IDS, OTHER_IDS))

    def read(raw: bytes) -> str:
        ids, x, _ = read_all(path, ReadOptions())
        assert x.tobytes() == X.tobytes(), "other vectors"
        if tuple(ids) == IDS:
            return SAME
        lines = text_of(raw).split("\n")
        assert ids == [line.strip() for line in lines[: len(ids)]], "ids that are not the lines"
        assert not any(line.strip() for line in lines[len(ids) :]), "a line without a vector"
        return ACCOUNTED

    return Target(ids_path, valid, other, read)


def text_of(raw: bytes) -> str:
    """Decodes a text as the readers of embeddings do, with `\\n` for each line end."""
    from bridge_jax.data.embedding_formats.ids import find_encoding

    encoding, _ = find_encoding(Path("text"), lambda: io.BytesIO(raw))
    return io.TextIOWrapper(io.BytesIO(raw), encoding).read()


_Writer = Callable[[Path, tuple[str, ...], np.ndarray], None]
_BINARY: Mapping[str, tuple[str, _Writer, bool]] = {
    "npz": ("a.npz", _npz, True),
    "npz keyed": ("keyed.npz", _npz_keyed, True),
    "npy": ("a.npy", _npy, False),
    "Parquet wide": ("wide.parquet", _parquet_wide, False),
    "Parquet lists": ("lists.parquet", partial(_parquet_lists, checksum=False), False),
    "Parquet checksum": ("checksum.parquet", partial(_parquet_lists, checksum=True), False),
    "HDF5 keyed": ("keyed.h5", partial(_hdf5_keyed, latest=False), False),
    "HDF5 keyed v3": ("latest.h5", partial(_hdf5_keyed, latest=True), False),
    "HDF5 matrix": ("matrix.h5", _hdf5_matrix, False),
    "h5ad": ("a.h5ad", _h5ad, False),
    "torch": ("a.pt", _torch, True),
    "safetensors": ("a.safetensors", _safetensors, False),
}


def _make_binary(folder: Path, name: str) -> Target:
    file, write, has_checksum = _BINARY[name]
    is_hdf5 = file.endswith(".h5")
    return binary_target(folder / file, write, ReadOptions(), has_checksum, may_exchange=is_hdf5)


def factories() -> dict[str, Factory]:
    """Returns the targets by name; each is made in a folder."""
    return {
        **{name: partial(_make_binary, name=name) for name in _BINARY},
        "ESM": _esm_target,
        "npy ids": _ids_target,
    }
