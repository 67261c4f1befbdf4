"""Check every byte of a dataset directory and describe its embeddings.

    python -m tools.verify_shards DATASET

Checks, in one pass over the files: the checksum of the manifest; size, framing, sha256 and the
CRC-32C of each record of each shard; that ids are text, unique and equal to those in the table of
names; that vectors are finite and not all zero; that facts and held-out nodes refer to existing
nodes, and so do pairs of similar nodes and synonyms; all counts; TFDS metadata, if present. Every
fault is listed with file, record and id; the exit code is then 1. A file that the manifest does not
list is noted, but is not a fault.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import decode_ids, vector_faults
from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.files import sha256_of_file
from bridge_jax.data.manifest import (
    Manifest,
    NodeTable,
    SimilarityTable,
    SplitFile,
    SynonymFile,
    file_name,
    read_manifest,
)
from bridge_jax.data.similarity import decode_pairs, pair_faults, similarity_layout
from bridge_jax.data.synonyms import read_synonyms
from bridge_jax.data.tfrecord import (
    DTYPES,
    Layout,
    Shard,
    heldout_layout,
    open_shard,
    triple_layout,
)
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

from .ingest.embedding_quality import HEADER, quality
from .ingest.tfds import tfds_metadata

OnVectors = Callable[[NodeTable, np.ndarray], object]


@dataclass
class FileReport:
    """Result of the check of one file.

    Attributes:
      file: Path relative to the dataset directory.
      records: Number of records.
      size: Size in bytes.
      faults: Descriptions of all faults.
    """

    file: str
    records: int = 0
    size: int = 0
    faults: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
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
    vectors: dict[str, np.ndarray] = {}
    reports = list(check_files(root, manifest, lambda table, x: vectors.update({table.name: x})))
    seconds = time.perf_counter() - start

    size = sum(r.size for r in reports)
    rows = [[r.file, r.records, r.size / 1e6, len(r.faults) or "ok"] for r in reports]
    print(text_table(rows, ("file", "records", "MB", "faults")))
    print(f"{size / 1e6:.1f} MB in {seconds:.2f} s: {size / 1e6 / seconds:.0f} MB/s\n")
    statistics = [
        [t.name, *quality(vectors[t.name])] for t in manifest.node_types if t.name in vectors
    ]
    print(text_table(statistics, ("node type", *HEADER)))
    for file in sorted(unlisted_files(root, manifest)):
        print(f"note: {file} is not listed in the manifest; it may be of an interrupted export")
    faults = [f"{r.file}: {fault}" for r in reports for fault in r.faults]
    print("\n".join(["", f"{len(faults)} fault{'s' * (len(faults) != 1)}", *faults]))
    return 1 if faults else 0


def check_files(root: Path, manifest: Manifest, on_vectors: OnVectors) -> Iterator[FileReport]:
    """Checks all files that a manifest implies.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      on_vectors: Called with each node table and its sound vectors, `[n, dim]` in the stored dtype.

    Yields:
      One report per file, in the order of the manifest.
    """
    for table in manifest.node_types:
        yield from _check_nodes(root, table, on_vectors, manifest.names.get(table.name))
    num_nodes = sum(t.count for t in manifest.node_types)
    limits = {
        "node": num_nodes, "head": num_nodes, "tail": num_nodes, "mirrored": 2,
        "relation": len(manifest.relations),
    }  # fmt: skip
    for file in manifest.triples.values():
        yield from _check_blocks(root, file, triple_layout(), limits)
    for file in manifest.heldout.values():
        yield from _check_blocks(root, file, heldout_layout(), limits)
    for node_type, similar in manifest.similarity.items():
        yield from _check_similarity(root, similar, manifest.table(node_type).count)
    for node_type, entry in manifest.synonyms.items():
        yield _check_synonyms(root, manifest, node_type, entry)
    if (root / "tfds").exists():
        yield _check_tfds(root, manifest)


def _check_nodes(
    root: Path, table: NodeTable, on_vectors: OnVectors, names_sha256: str | None
) -> Iterator[FileReport]:
    ids_by_file: dict[str, list[str]] = {}
    known_ids: set[str] = set()
    sound = []
    for shard in table.shards:
        report, frames = _open_shard(root, shard, table.layout)
        ids = _decode_ids(frames[:, table.layout.slice("id")], report)
        if len(set(ids)) < len(ids) or not known_ids.isdisjoint(ids):
            report.faults += _duplicates(ids_by_file, shard.file, ids)
        known_ids.update(ids)
        ids_by_file[shard.file] = ids
        x = frames[:, table.layout.slice("embedding")].view(DTYPES[table.dtype])
        bad = vector_faults(x) if len(x) else []
        report.faults += [f"record {i}, id {ids[i]!r}: {fault}" for i, fault in bad]
        sound.append(np.delete(x, [i for i, _ in bad], axis=0) if bad else x)
        yield report
    ids = [i for shard_ids in ids_by_file.values() for i in shard_ids]
    if len(ids) != table.count:
        fault = f"{table.name}: {len(ids)} records where the manifest counts {table.count}"
        yield FileReport("manifest.json", faults=[fault])
    yield _check_names(root, table, ids, names_sha256)
    if any(len(x) for x in sound):
        on_vectors(table, np.concatenate(sound) if len(sound) > 1 else sound[0])


def _duplicates(ids_by_file: Mapping[str, list[str]], file: str, ids: list[str]) -> list[str]:
    """Describes the ids of a shard that occur earlier in it or in the shards before it."""
    first: dict[str, str] = {}
    for earlier_file, earlier_ids in ids_by_file.items():
        for i, id_ in enumerate(earlier_ids):
            first.setdefault(id_, f"{earlier_file} record {i}")
    faults = []
    for i, id_ in enumerate(ids):
        if id_ in first:
            faults.append(f"record {i}, id {id_!r}: also in {first[id_]}")
        first.setdefault(id_, f"{file} record {i}")
    return faults


def _decode_ids(raw: np.ndarray, report: FileReport) -> list[str]:
    """Decodes the ids of a shard; an id that is empty or not UTF-8 is a fault."""
    try:
        ids = decode_ids(raw) if len(raw) else []
    except UnicodeDecodeError:
        ids = []
        for i, row in enumerate(raw):
            try:
                ids += decode_ids(row[None])
            except UnicodeDecodeError:
                ids.append(repr(row.tobytes()))
                report.faults.append(f"record {i}: its id is not UTF-8: {ids[-1]}")
    report.faults += [f"record {i}: its id is empty" for i, id_ in enumerate(ids) if not id_]
    return ids


def _open_shard(root: Path, shard: Shard, layout: Layout) -> tuple[FileReport, np.ndarray]:
    frames, faults = open_shard(root, shard, layout)
    path = root / shard.file
    size = path.stat().st_size if path.is_file() else 0
    return FileReport(shard.file, len(frames), size, faults), frames


def _check_names(
    root: Path, table: NodeTable, ids: Sequence[str], sha256: str | None
) -> FileReport:
    file = f"nodes/{file_name(table.name)}.tsv"
    try:
        text = (root / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        return FileReport(file, faults=[f"the table of names cannot be read: {e}"])
    rows = [line.split("\t") for line in text.split("\n")[1:-1]]
    report = FileReport(file, len(rows), len(text.encode()))
    if sha256 is not None and sha256_of_file(root / file) != sha256:
        report.faults.append("its sha256 differs from the manifest's: a name was changed")
    if len(rows) != len(ids):
        report.faults.append(f"{len(rows)} names for {len(ids)} records")
    for i, (row, id_) in enumerate(zip(rows, ids, strict=False)):
        if len(row) != 2 or row[0] != id_:
            report.faults.append(f"line {i + 2} reads {row} where the shard has id {id_!r}")
    return report


def _check_blocks(
    root: Path, file: SplitFile, layout: Layout, limits: Mapping[str, int]
) -> Iterator[FileReport]:
    """Checks the shards of one split: `limits` is the number of valid values of each column."""
    start = 0
    for shard in file.shards:
        report, frames = _open_shard(root, shard, layout)
        for name, _ in layout.features:
            values = np.ascontiguousarray(frames[:, layout.slice(name)]).view("<i4").ravel()
            row = start + np.arange(len(values))
            is_row = row < file.count  # the other values are padding
            is_bad = (values < 0) | (values >= limits[name])
            for i in np.flatnonzero(is_row & is_bad).tolist():
                report.faults.append(
                    f"row {row[i]}: {name} {values[i]} is not from 0 to {limits[name] - 1}"
                )
            for i in np.flatnonzero(~is_row & (values != -1)).tolist():
                report.faults.append(f"row {row[i]}: {name} {values[i]} in the padding")
        start += len(values)
        if shard is file.shards[-1] and start < file.count:
            report.faults.append(f"{start} rows where the manifest counts {file.count}")
        yield report


def _check_similarity(root: Path, table: SimilarityTable, num_nodes: int) -> Iterator[FileReport]:
    """Checks the shards of the similar nodes of one type."""
    layout = similarity_layout()
    reports, columns = [], []
    for shard in table.shards:
        report, frames = _open_shard(root, shard, layout)
        columns.append(decode_pairs({k: frames[:, layout.slice(k)] for k, _ in layout.features}))
        reports.append(report)
    if reports and not any(report.faults for report in reports):
        whole = {k: np.concatenate([c[k] for c in columns]) for k in columns[0]}
        ends = np.cumsum([len(c["query"]) for c in columns])
        for row, what in pair_faults(**whole, count=table.count, num_nodes=num_nodes):
            k = min(int(np.searchsorted(ends, row, side="right")), len(reports) - 1)
            reports[k].faults.append(f"row {row}: {what}")
    yield from reports


def _check_synonyms(
    root: Path, manifest: Manifest, node_type: str, entry: SynonymFile
) -> FileReport:
    path = root / entry.file
    report = FileReport(entry.file, entry.count, path.stat().st_size if path.is_file() else 0)
    try:
        ids = read_synonyms(root, manifest, node_type).keys()
        # The table of names has been compared with the shards.
        others = sorted(ids - read_names(root, manifest, node_type).keys())
        report.faults += [f"id {i!r} is no {node_type}" for i in others]
    except (InputError, UnicodeDecodeError) as e:
        report.faults.append(str(e))
    return report


def _check_tfds(root: Path, manifest: Manifest) -> FileReport:
    report = FileReport("tfds")
    for file, value in tfds_metadata(manifest).items():
        try:
            raw = (root / file).read_bytes()
            report.records, report.size = report.records + 1, report.size + len(raw)
            if json.loads(raw) != value:
                report.faults.append(f"{file} is not what the manifest implies")
        except (OSError, ValueError, RecursionError) as e:
            report.faults.append(f"{file} cannot be read: {e}")
    return report


def unlisted_files(root: Path, manifest: Manifest) -> set[str]:
    """Returns the files in the folders of the shards that the manifest does not list."""
    listed = manifest.files() | {f"nodes/{file_name(t.name)}.tsv" for t in manifest.node_types}
    folders = ("nodes", "triples", "heldout", "similarity")
    files = (p for f in folders for p in (root / f).glob("*") if p.is_file())
    return {p.relative_to(root).as_posix() for p in files} - listed


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.verify_shards", __doc__)
    parser.add_argument("dataset", help="dataset directory")
    return parser


if __name__ == "__main__":
    cli.run(main)
