"""Vectors to disk, a block at a time: a project shard, npy + ids, or parquet.

Each file appears under its name, whole, when the block of code that writes it ends well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import encode_ids
from bridge_jax.data.embedding_files import need_parquet
from bridge_jax.data.files import atomic_file, sha256_of_file
from bridge_jax.data.tfrecord import DTYPES, node_layout, shard_writer
from bridge_jax.errors import InputError

Append = Callable[[list[str], np.ndarray], None]


@dataclass
class Written:
    """What an output holds; complete once its context has ended.

    Attributes:
      append: takes ids and as many rows.
      files: the journal's entries, by what they are: `shard`, and `ids` where those stand apart.
    """

    append: Append
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def tfrecord(root: Path, file: str, dim: int, dtype: str, id_bytes: int) -> Iterator[Written]:
    """A shard as `records` defines it."""
    with shard_writer(root, file, node_layout(id_bytes, dim, dtype)) as shard:

        def append(ids: list[str], x: np.ndarray) -> None:
            shard.append({"id": encode_ids(ids, id_bytes), "embedding": x})

        written = Written(append)
        yield written
    written.files["shard"] = asdict(shard.shard(file))


@contextmanager
def npy(root: Path, file: str, dim: int, dtype: str, id_bytes: int) -> Iterator[Written]:
    """`<name>.npy`, and its ids in `<name>.ids.txt`, one a line."""
    names = str(Path(file).with_suffix(".ids.txt"))
    count = 0
    with (
        atomic_file(root / names) as lines,
        atomic_file(root / file) as path,
        open(lines, "w", encoding="utf-8") as texts,
        open(path, "wb") as array,
    ):

        def append(ids: list[str], x: np.ndarray) -> None:
            nonlocal count
            texts.writelines(f"{i}\n" for i in ids)
            array.write(np.ascontiguousarray(x).data)
            count += len(ids)

        def header() -> None:  # numpy leaves room in it for a larger count
            about = {"descr": DTYPES[dtype].str, "fortran_order": False, "shape": (count, dim)}
            np.lib.format.write_array_header_1_0(array, about)

        header()
        written = Written(append)
        yield written
        array.seek(0)
        header()
        texts.flush()
        array.flush()
        written.files |= {"shard": _entry(path, file, count), "ids": _entry(lines, names, count)}


@contextmanager
def parquet(root: Path, file: str, dim: int, dtype: str, id_bytes: int) -> Iterator[Written]:
    """A file with the columns `id` and `embedding`, a list of fixed size."""
    pq = need_parquet()
    import pyarrow as pa

    inner = pa.from_numpy_dtype(DTYPES[dtype])
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(inner, dim))])
    count = 0
    with atomic_file(root / file) as path:
        # Vectors hardly compress; a dictionary of them would only cost time.
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(path, schema, **options) as table:

            def append(ids: list[str], x: np.ndarray) -> None:
                nonlocal count
                flat = pa.array(np.ascontiguousarray(x).ravel(), inner)
                rows = [pa.array(ids), pa.FixedSizeListArray.from_arrays(flat, dim)]
                table.write_batch(pa.RecordBatch.from_arrays(rows, schema=schema))
                count += len(ids)

            written = Written(append)
            yield written
        written.files["shard"] = _entry(path, file, count)


FORMATS = {"tfrecord": tfrecord, "parquet": parquet, "npy": npy}


def check_format(form: str, dtype: str) -> None:
    """Refuse a dtype that a format does not know.

    Raises:
      InputError: bfloat16 in anything but a tfrecord; pyarrow is missing.
    """
    if dtype == "bfloat16" and form != "tfrecord":
        raise InputError(f"--format {form} has no bfloat16; choose float16, or --format tfrecord")
    if form == "parquet":
        need_parquet()


def _entry(path: Path, file: str, records: int) -> dict[str, Any]:
    digest = sha256_of_file(path)
    return {"file": file, "records": records, "sha256": digest}
