"""Files that unpack to, or claim, far more than they hold, and files of nothing but bad rows."""

import gzip
import io
import json
import multiprocessing
import struct
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fuzzing.case import OUT_OF_MEMORY
from benchmarks.fuzzing.embedding_targets import read_all
from benchmarks.fuzzing.table_targets import read_pairs
from benchmarks.fuzzing.worker import MEMORY_BYTES, limit_memory, peak_mib, reset_peak
from bridge_jax.data.embedding_files import ReadOptions
from bridge_jax.data.findings import Findings
from bridge_jax.errors import InputError
from tools.formats import read_graph
from tools.formats.entities import open_entities

MAX_MIB = 1024
NUM_BAD_ROWS = 10_000_000
_TIME_LIMIT_S = 600.0
_MIB = 1 << 20


class Bomb(NamedTuple):
    """A file that must not take much memory.

    Attributes:
      file: Its name.
      write: Writes it.
      read: Reads it; returns the number of rows that it accounts for.
      num_rows: Number of its rows; 0 if it must be refused.
    """

    file: str
    write: Callable[[Path], None]
    read: Callable[[Path], int]
    num_rows: int = 0


class BombResult(NamedTuple):
    """Outcome of a bomb.

    Attributes:
      name: Name of the bomb.
      outcome: What the reader did.
      peak_mib: Memory that it took.
      message: What is wrong; empty if nothing is.
    """

    name: str
    outcome: str
    peak_mib: float
    message: str


def _gzip_zeros(path: Path, start: bytes = b"") -> None:
    """Writes 4 GiB of zeros, as 64 gzip members one after the other."""
    member = gzip.compress(bytes(64 * _MIB), 1)
    path.write_bytes(gzip.compress(start) + member * 64 if start else member * 64)


def _gzip_rows(path: Path, row: bytes, num_rows: int, header: bytes = b"") -> None:
    block = gzip.compress(row * (num_rows // 100), 1)
    path.write_bytes((gzip.compress(header) if header else b"") + block * 100)


def _npy_header(path: Path) -> None:
    with io.BytesIO() as stream:
        header: Any = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 64)}
        np.lib.format.write_array_header_1_0(stream, header)
        path.write_bytes(stream.getvalue() + bytes(256))
    path.with_suffix(".ids.txt").write_text("a\n")


def _npz(path: Path) -> None:
    """Writes an archive whose matrix unpacks from 2 MB to 2 GiB."""
    np.savez(path, ids=np.array(["a"]))
    header: Any = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 512)}
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(32):
            member.write(bytes(64 * _MIB))


def _torch_deflated(path: Path) -> None:
    """Writes a PyTorch file with its values deflated, which PyTorch reads."""
    import torch

    torch.save({"x": torch.zeros(1 << 26, 4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw + bytes(_MIB if name.endswith("data/0") else 0))


def _torch_expanded(path: Path) -> None:
    import torch

    torch.save({"ids": ["a"], "x": torch.zeros(1, 1).expand(10**12, 8)}, path)


def _safetensors(path: Path) -> None:
    rows = 10**12
    entry = {"dtype": "F32", "shape": [rows, 8], "data_offsets": [0, rows * 32]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    path.with_suffix(".ids.txt").write_text("a\n")


def _safetensors_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 99_000_000) + b'{"x":' + bytes(64))


def _hdf5_zeros(path: Path) -> None:
    """Writes 2 GiB of zeros as one gzip chunk of 128 MiB, sixteen times."""
    import zlib

    import h5py

    with h5py.File(path, "w") as file:
        file["ids"] = [b"a"] * (1 << 20)
        x = file.create_dataset(
            "x", (1 << 20, 512), "f4", chunks=(1 << 16, 512), compression="gzip"
        )
        chunk = zlib.compress(bytes(128 * _MIB), 1)
        for k in range(16):
            x.id.write_direct_chunk((k << 16, 0), chunk)


def _hdf5_chunk(path: Path) -> None:
    """Writes four rows in a chunk that unpacks to 3 GiB."""
    import h5py

    with h5py.File(path, "w") as file:
        file["ids"] = [b"a", b"b", b"c", b"d"]
        x = file.create_dataset(
            "x", (4, 8), "f4", maxshape=(None, 8), chunks=(100 << 20, 8), compression="gzip"
        )
        x.id.write_direct_chunk((0, 0), b"x\x9c" + bytes(99))


def _hdf5_rows(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["ids"] = [b"a"]
        file.create_dataset("x", (10**12, 8), "f4", chunks=(1000, 8))


def _parquet(path: Path, lists: bool) -> None:
    """Writes 2 GiB of one value, which Parquet encodes as a dictionary and run lengths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, dim = (16, 1 << 21) if lists else (1 << 25, 1)
    zeros = pa.array(np.zeros(rows * dim, np.float32))
    column = pa.ListArray.from_arrays(np.arange(0, rows * dim + 1, dim), zeros) if lists else zeros
    table = pa.table({"id": pa.array(["a"] * rows), "embedding" if lists else "x0": column})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(16):
            writer.write_table(table)


def _bad_rows(path: Path, header: bytes = b"", row: bytes = b"x\n") -> None:
    path.write_bytes(header + row * NUM_BAD_ROWS)


def _graph_rows(path: Path, format_name: str) -> int:
    return read_graph(format_name, path).num_rows


def _entity_rows(path: Path, format_name: str) -> int:
    findings = Findings()
    rows = sum(1 for _ in open_entities(path, format_name).read(findings))
    return rows + sum(f.num_rows for f in findings)


def _pairs(path: Path) -> int:
    return len(read_pairs(path).rows)


def _embeddings(path: Path, max_unpacked: float = 1.0) -> int:
    return len(read_all(path, ReadOptions(max_unpacked=max_unpacked))[0])


_KG = b"relation,display_relation,x_id,x_type,y_id,y_type\n"
_EDGE = b"a,b,1,drug,,gene\n"
BOMBS: Mapping[str, Bomb] = {
    "gzip of zeros, graph": Bomb(
        "kg.csv.gz", _gzip_zeros, partial(_graph_rows, format_name="primekg")
    ),
    "gzip of zeros, FASTA": Bomb(
        "a.fasta.gz", partial(_gzip_zeros, start=b">a\nMK"),
        partial(_entity_rows, format_name="fasta"),
    ),
    "gzip of zeros, N-Triples": Bomb(
        "a.nt.gz", _gzip_zeros, partial(_graph_rows, format_name="ntriples")
    ),
    "gzip of rows, matrix": Bomb(
        "a.csv.gz",
        partial(_gzip_rows, row=b"a" + b",0" * 500 + b"\n", num_rows=100_000),
        partial(_embeddings, max_unpacked=0.05),
    ),
    "npy of 2^40 rows": Bomb("a.npy", _npy_header, _embeddings),
    "npz of zeros": Bomb("a.npz", _npz, _embeddings),
    "torch of zeros": Bomb("a.pt", _torch_deflated, _embeddings),
    "torch of 10^12 rows": Bomb("a.pt", _torch_expanded, _embeddings),
    "safetensors of 10^12 rows": Bomb("a.safetensors", _safetensors, _embeddings),
    "safetensors header": Bomb("b.safetensors", _safetensors_header, _embeddings),
    "HDF5 of zeros": Bomb("a.h5", _hdf5_zeros, _embeddings),
    "HDF5 chunk": Bomb("a.h5", _hdf5_chunk, _embeddings),
    "HDF5 of 10^12 rows": Bomb("a.h5", _hdf5_rows, _embeddings),
    "Parquet columns": Bomb("a.parquet", partial(_parquet, lists=False), _embeddings),
    "Parquet lists": Bomb("a.parquet", partial(_parquet, lists=True), _embeddings),
    "bad rows, graph": Bomb(
        "kg.csv", partial(_bad_rows, header=_KG), partial(_graph_rows, format_name="primekg"),
        NUM_BAD_ROWS,
    ),
    "rows without an id, graph": Bomb(
        "kg.csv", partial(_bad_rows, header=_KG, row=_EDGE),
        partial(_graph_rows, format_name="primekg"), NUM_BAD_ROWS,
    ),
    "bad rows, N-Triples": Bomb(
        "a.nt", _bad_rows, partial(_graph_rows, format_name="ntriples"), NUM_BAD_ROWS
    ),
    "bad rows, SMILES": Bomb(
        "a.smi", partial(_bad_rows, row=b"C\n"), partial(_entity_rows, format_name="smi"),
        NUM_BAD_ROWS,
    ),
    "bad rows, FASTA": Bomb(
        "a.fasta", partial(_bad_rows, row=b">\n", header=b""),
        partial(_entity_rows, format_name="fasta"), NUM_BAD_ROWS,
    ),
    "bad rows, table": Bomb(
        "a.csv", partial(_bad_rows, header=b"id,smiles\n"),
        partial(_entity_rows, format_name="table"), NUM_BAD_ROWS,
    ),
}  # fmt: skip


def run_bombs(names: Sequence[str] = ()) -> list[BombResult]:
    """Reads the files, each in a new process.

    Args:
      names: Names of the bombs; default: all.
    """
    context = multiprocessing.get_context("spawn")
    results = []
    for name in names or BOMBS:
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, name))
        process.start()
        theirs.close()
        try:
            result = ours.recv() if ours.poll(_TIME_LIMIT_S) else None
        except EOFError:
            result = None
        process.kill()
        process.join()
        end = f"the process died with exit code {process.exitcode}"
        results.append(result or BombResult(name, "died", 0.0, end))
    return results


def _run(pipe: Connection, name: str) -> None:
    warnings.simplefilter("ignore")
    bomb = BOMBS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / bomb.file
        bomb.write(path)
        limit_memory(MEMORY_BYTES)
        before, start = reset_peak(), time.perf_counter()
        outcome, message = _outcome(bomb, path)
        used = peak_mib() - before
        outcome = f"{outcome}, {time.perf_counter() - start:.1f} s"
    if used > MAX_MIB:
        message = message or f"{used:.0f} MiB"
    pipe.send(BombResult(name, outcome, used, message))


def _outcome(bomb: Bomb, path: Path) -> tuple[str, str]:
    try:
        rows = bomb.read(path)
    except InputError as e:
        is_wrong = bomb.num_rows or OUT_OF_MEMORY.search(str(e)) or "\n" in str(e)
        return "refused", str(e) if is_wrong else ""
    except Exception as e:
        return "failed", f"{type(e).__name__}: {e}"
    right = rows == bomb.num_rows > 0
    return f"{rows:,} rows accounted for", "" if right else f"{rows} rows of {bomb.num_rows}"
