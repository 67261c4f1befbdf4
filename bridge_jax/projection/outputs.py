"""Output shards of a projection, written block by block: tfrecord, npy with ids, or parquet.

A file gets its name only when it is complete, at the end of the context that writes it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.dataset import encode_ids
from bridge_jax.data.embedding_files import import_parquet
from bridge_jax.data.files import atomic_file, check_file_size, sha256_of_file
from bridge_jax.data.tfrecord import DTYPES, node_layout, shard_writer
from bridge_jax.errors import InputError

Append = Callable[[list[str], np.ndarray], None]


@dataclass
class OutputShard:
    """An output shard that is being written.

    Attributes:
      append: Writes ids and as many rows.
      ids_sha256: SHA-256 of all ids, one per line, for a check of the written file; set before the
        context ends.
      files: File, number of records and checksum as the journal records them: of `shard` and, if
        they are in a second file, of `ids`. Empty until the context has ended.
    """

    append: Append
    ids_sha256: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def write_tfrecord(
    root: Path, file: str, dim: int, dtype: str, id_bytes: int
) -> Iterator[OutputShard]:
    """Writes a TFRecord shard as `bridge_jax.data.tfrecord` defines it."""
    with shard_writer(root, file, node_layout(id_bytes, dim, dtype)) as writer:

        def append(ids: list[str], x: np.ndarray) -> None:
            writer.append({"id": encode_ids(ids, id_bytes), "embedding": x})

        output = OutputShard(append)
        yield output
    output.files["shard"] = asdict(writer.shard(file))


@contextmanager
def write_npy(root: Path, file: str, dim: int, dtype: str, id_bytes: int) -> Iterator[OutputShard]:
    """Writes `<name>.npy`, and the ids in `<name>.ids.txt`, one per line."""
    ids_file = str(Path(file).with_suffix(".ids.txt"))
    count = 0
    with (
        atomic_file(root / ids_file) as ids_path,
        atomic_file(root / file) as array_path,
        open(ids_path, "w", encoding="utf-8") as ids_handle,
        open(array_path, "wb") as array_handle,
    ):

        def append(ids: list[str], x: np.ndarray) -> None:
            nonlocal count
            ids_handle.writelines(f"{i}\n" for i in ids)
            array_handle.write(np.ascontiguousarray(x).data)
            count += len(ids)

        def write_header() -> None:  # numpy pads it, so that a larger count fits in later
            header = {"descr": DTYPES[dtype].str, "fortran_order": False, "shape": (count, dim)}
            np.lib.format.write_array_header_1_0(array_handle, header)

        write_header()
        data_start = array_handle.tell()
        output = OutputShard(append)
        yield output
        array_handle.seek(0)
        write_header()
        for handle in (ids_handle, array_handle):  # both, before one of them gets its name
            handle.flush()
            os.fsync(handle.fileno())
        check_file_size(array_handle, data_start + count * dim * DTYPES[dtype].itemsize)
        output.files["shard"] = _journal_entry(array_path, file, count)
        output.files["ids"] = _journal_entry(ids_path, ids_file, count)
        if output.ids_sha256 not in ("", output.files["ids"]["sha256"]):
            raise OSError(f"{ids_path}: holds other ids than were written; check the disk")


@contextmanager
def write_parquet(
    root: Path, file: str, dim: int, dtype: str, id_bytes: int
) -> Iterator[OutputShard]:
    """Writes a Parquet file with the columns `id` and `embedding`, a list of fixed size."""
    pq = import_parquet()
    import pyarrow as pa

    value_type = pa.from_numpy_dtype(DTYPES[dtype])
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(value_type, dim))])
    count = 0
    with atomic_file(root / file) as path:
        # Embeddings hardly compress, and a dictionary of them would only cost time.
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(path, schema, **options) as writer:

            def append(ids: list[str], x: np.ndarray) -> None:
                nonlocal count
                values = pa.array(np.ascontiguousarray(x).ravel(), value_type)
                columns = [pa.array(ids), pa.FixedSizeListArray.from_arrays(values, dim)]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                count += len(ids)

            output = OutputShard(append)
            yield output
        if pq.read_metadata(path).num_rows != count:
            raise OSError(f"{path}: rows are missing; check the disk")
        output.files["shard"] = _journal_entry(path, file, count)


FORMATS = {"tfrecord": write_tfrecord, "parquet": write_parquet, "npy": write_npy}


def check_format(file_format: str, dtype: str) -> None:
    """Checks that a format can store a dtype.

    Raises:
      InputError: The dtype is bfloat16 and the format is not tfrecord, or pyarrow is missing.
    """
    if dtype == "bfloat16" and file_format != "tfrecord":
        raise InputError(
            f"--format {file_format} cannot store bfloat16; use --dtype float16, or --format "
            "tfrecord"
        )
    if file_format == "parquet":
        import_parquet()


def _journal_entry(path: Path, file: str, num_records: int) -> dict[str, Any]:
    return {"file": file, "records": num_records, "sha256": sha256_of_file(path)}
