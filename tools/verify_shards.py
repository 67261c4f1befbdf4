"""Check every byte of a dataset directory, and describe its embeddings.

    python -m tools.verify_shards DATASET

Checked in one read: the manifest's own checksum; each shard's size, framing, CRC-32C of every
record and sha256; that ids are text, unique and the same in the table of names; that vectors are
finite and not all zero; that facts and held-out nodes exist; that counts agree; that TFDS
metadata, where it is there, is the manifest's. Every fault is listed, with file, record and id,
and makes the exit code 1. A file that no part of the dataset lists is noted, and is no fault.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import (
    DTYPES,
    Manifest,
    NodeTable,
    TripleFile,
    decode_ids,
    file_name,
    read_manifest,
    vector_faults,
)
from bridge_jax.data.tfrecord import Layout, Shard, heldout_layout, open_shard, triple_layout
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

from .ingest.embedding_quality import HEADER, quality
from .ingest.tfds import tfds_files


@dataclass
class Checked:
    """One file of a dataset: what is wrong with it, and how large it is."""

    file: str
    records: int = 0
    size: int = 0
    faults: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    root = Path(args.dataset)
    if not (root / "manifest.json").is_file():
        read_manifest(root)  # raises: this is no dataset
    start = time.perf_counter()
    try:
        manifest = read_manifest(root)
    except InputError as e:
        print(f"1 fault\n{e}")
        return 1
    tables: dict[str, np.ndarray] = {}
    checked = list(check(root, manifest, lambda table, x: tables.update({table.name: x})))
    seconds = time.perf_counter() - start

    size = sum(c.size for c in checked)
    rows = [[c.file, c.records, c.size / 1e6, len(c.faults) or "ok"] for c in checked]
    print(text_table(rows, ("file", "records", "MB", "faults")))
    print(f"{size / 1e6:.1f} MB in {seconds:.2f} s: {size / 1e6 / seconds:.0f} MB/s\n")
    described = [
        [t.name, *quality(tables[t.name])] for t in manifest.node_types if t.name in tables
    ]
    print(text_table(described, ("node type", *HEADER)))
    for file in sorted(unlisted(root, manifest)):
        print(f"note: {file} is listed nowhere; an interrupted export, or left over")
    faults = [f"{c.file}: {fault}" for c in checked for fault in c.faults]
    print("\n".join(["", f"{len(faults)} fault{'s' * (len(faults) != 1)}", *faults]))
    return 1 if faults else 0


def check(
    root: Path, manifest: Manifest, seen: Callable[[NodeTable, np.ndarray], object]
) -> Iterator[Checked]:
    """Check every file that a manifest implies.

    Args:
      root: the dataset directory.
      manifest: its manifest.
      seen: called with each table of nodes and its sound vectors, `[n, dim]` float32.

    Yields:
      The files, in the order of the manifest.
    """
    for table in manifest.node_types:
        yield from _check_nodes(root, table, seen)
    limits = {"node": sum(t.count for t in manifest.node_types)}
    limits |= {"head": limits["node"], "tail": limits["node"], "mirrored": 2}
    limits["relation"] = len(manifest.relations)
    for files, layout in (
        (manifest.triples, triple_layout()),
        (manifest.heldout, heldout_layout()),
    ):
        for file in files.values():
            yield from _check_blocks(root, file, layout, limits)
    if (root / "tfds").exists():
        yield _check_tfds(root, manifest)


def _check_nodes(
    root: Path, table: NodeTable, seen: Callable[[NodeTable, np.ndarray], object]
) -> Iterator[Checked]:
    first: dict[str, str] = {}
    ids, sound = [], []
    for shard in table.shards:
        one, frames = _open(root, shard, table.layout)
        names = _ids(frames[:, table.layout.slice("id")], one)
        here = dict(
            zip(names, (f"{shard.file} record {i}" for i in range(len(names))), strict=True)
        )
        if len(here) < len(names) or not first.keys().isdisjoint(here):
            here = {}
            for i, name in enumerate(names):
                if name in first or name in here:
                    where = first.get(name) or here[name]
                    one.faults.append(f"record {i}, id {name!r}: also in {where}")
                here.setdefault(name, f"{shard.file} record {i}")
        first = here | first
        x = frames[:, table.layout.slice("embedding")].view(DTYPES[table.dtype])
        bad = vector_faults(x) if len(x) else []
        one.faults += [f"record {i}, id {names[i]!r}: {what}" for i, what in bad]
        sound.append(np.delete(x, [i for i, _ in bad], axis=0) if bad else x)
        ids += names
        yield one
    if len(ids) != table.count:
        text = f"{table.name}: {len(ids)} records where the manifest counts {table.count}"
        yield Checked("manifest.json", faults=[text])
    yield _check_names(root, table, ids)
    if any(len(x) for x in sound):
        seen(table, np.concatenate(sound) if len(sound) > 1 else sound[0])


def _ids(raw: np.ndarray, one: Checked) -> list[str]:
    """The ids of a shard; one that is empty or no text is a fault."""
    try:
        names = decode_ids(raw) if len(raw) else []
    except UnicodeDecodeError:
        names = []
        for i, row in enumerate(raw):
            try:
                names += decode_ids(row[None])
            except UnicodeDecodeError:
                names.append(repr(row.tobytes()))
                one.faults.append(f"record {i}: its id is not UTF-8: {names[-1]}")
    one.faults += [f"record {i}: its id is empty" for i, name in enumerate(names) if not name]
    return names


def _open(root: Path, shard: Shard, layout: Layout) -> tuple[Checked, np.ndarray]:
    frames, faults = open_shard(root, shard, layout)
    path = root / shard.file
    size = path.stat().st_size if path.is_file() else 0
    return Checked(shard.file, len(frames), size, faults), frames


def _check_names(root: Path, table: NodeTable, ids: Sequence[str]) -> Checked:
    file = f"nodes/{file_name(table.name)}.tsv"
    try:
        text = (root / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        return Checked(file, faults=[f"the table of names cannot be read: {e}"])
    rows = [line.split("\t") for line in text.split("\n")[1:-1]]
    one = Checked(file, len(rows), len(text.encode()))
    if len(rows) != len(ids):
        one.faults.append(f"{len(rows)} names for {len(ids)} records")
    for i, (row, name) in enumerate(zip(rows, ids, strict=False)):
        if len(row) != 2 or row[0] != name:
            one.faults.append(f"line {i + 2} reads {row} where the shard has id {name!r}")
    return one


def _check_blocks(
    root: Path, file: TripleFile, layout: Layout, limits: dict[str, int]
) -> Iterator[Checked]:
    start = 0
    for shard in file.shards:
        one, frames = _open(root, shard, layout)
        for name, _ in layout.features:
            flat = np.ascontiguousarray(frames[:, layout.slice(name)]).view("<i4").ravel()
            row = start + np.arange(len(flat))
            inside = row < file.count
            for i in np.flatnonzero(inside & ((flat < 0) | (flat >= limits[name]))).tolist():
                text = f"row {row[i]}: {name} {flat[i]} is not from 0 to {limits[name] - 1}"
                one.faults.append(text)
            for i in np.flatnonzero(~inside & (flat != -1)).tolist():
                one.faults.append(f"row {row[i]}: {name} {flat[i]} in the padding")
        start += len(flat)
        if shard is file.shards[-1] and start < file.count:
            one.faults.append(f"{start} rows where the manifest counts {file.count}")
        yield one


def _check_tfds(root: Path, manifest: Manifest) -> Checked:
    one = Checked("tfds")
    for file, value in tfds_files(manifest).items():
        try:
            raw = (root / file).read_bytes()
            one.records, one.size = one.records + 1, one.size + len(raw)
            if json.loads(raw) != value:
                one.faults.append(f"{file} is not what the manifest implies")
        except (OSError, ValueError, RecursionError) as e:
            one.faults.append(f"{file} cannot be read: {e}")
    return one


def unlisted(root: Path, manifest: Manifest) -> set[str]:
    """Files beside the shards that no part of the dataset lists."""
    listed = manifest.files() | {f"nodes/{file_name(t.name)}.tsv" for t in manifest.node_types}
    folders = ("nodes", "triples", "heldout")
    found = (p for f in folders for p in (root / f).glob("*") if p.is_file())
    return {p.relative_to(root).as_posix() for p in found} - listed


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.verify_shards", __doc__)
    parser.add_argument("dataset", help="the dataset directory")
    return parser


if __name__ == "__main__":
    cli.run(main)
