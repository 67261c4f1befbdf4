"""Damages valid files at random and checks that no damage is read as data.

    python -m benchmarks.fuzz --cases 20000 --seed 0

The targets are a shard of nodes, a shard of triples, the manifest, `kg.csv`, and the same gzipped.
A case applies one to three mutations to the bytes of a file (see `benchmarks.mutations`). The
reader must either raise `InputError` or return what it returns for the valid file. It must raise no
other exception, and no case may take longer than ten seconds.

A mutated `kg.csv` is often another valid graph. If it is accepted, the benchmark checks that each
line is a row or a reject, that rows = facts + mirrored + duplicates + rejects, and that each line
of the valid file still gives the same edge. A complete gzip file of another graph, or several in a
row, are valid too; nothing else that is gzipped may be accepted.
"""

import argparse
import gzip
import itertools
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.mutations import mutate
from bridge_jax import cli
from bridge_jax.data.dataset import read_columns, read_nodes, write_columns, write_nodes
from bridge_jax.data.manifest import Manifest, SplitFile, read_manifest, write_manifest
from bridge_jax.data.splits import collapse
from bridge_jax.data.tfrecord import triple_layout
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table
from tools.formats import FORMATS

EXCERPT = Path(__file__).parents[1] / "tests/fixtures/openbiokg_excerpt/kg.csv"
TIME_LIMIT_S = 10


@dataclass
class Tally:
    """Outcomes of a target's cases.

    Attributes:
      refused: Cases that raised `InputError`.
      same: Cases that returned the content of the valid file.
      accounted: Cases that returned other content of which every line is accounted for.
      slowest_s: Seconds of the slowest case.
      wrong: Messages of the cases that failed.
      mutations: How often each mutation was applied.
    """

    refused: int = 0
    same: int = 0
    accounted: int = 0
    slowest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    mutations: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Target:
    """A file to damage.

    Attributes:
      path: Path of the file.
      valid: Its valid bytes.
      other: Bytes of the same file of another dataset.
      read: Reads the file, given its bytes, and returns `same` or `accounted`; raises otherwise.
    """

    path: Path
    valid: bytes
    other: bytes
    read: Callable[[bytes], str]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tallies = {
            name: fuzz(target, args.cases, args.seed)
            for name, target in make_targets(Path(folder)).items()
        }
    rows = [
        [n, args.cases, t.refused, t.same, t.accounted, len(t.wrong), f"{t.slowest_s * 1e3:.0f} ms"]
        for n, t in tallies.items()
    ]
    header = ("file", "cases", "refused", "same content", "accounted for", "wrong", "slowest")
    print(text_table(rows, header))
    mutations = sorted({m for t in tallies.values() for m in t.mutations})
    counts = [[m, *(t.mutations[m] for t in tallies.values())] for m in mutations]
    print("\n" + text_table(counts, ("mutation", *tallies)))
    wrong = [f"{n}: {message}" for n, t in tallies.items() for message in t.wrong]
    print("\n".join(["", *wrong]))
    return 1 if wrong else 0


def fuzz(target: Target, cases: int, seed: int) -> Tally:
    """Damages and reads a file many times.

    Args:
      target: File to damage.
      cases: Number of cases.
      seed: Random seed; case k depends on the seed and k only.
    """
    tally = Tally()
    signal.signal(signal.SIGALRM, _raise_timeout)
    for k in range(cases):
        raw, mutations = mutate(target.valid, target.other, np.random.default_rng((seed, k)))
        tally.mutations.update(mutations)
        target.path.write_bytes(raw)
        case = f"case {k} ({', '.join(mutations)})"
        start = time.perf_counter()
        signal.alarm(TIME_LIMIT_S)
        try:
            outcome = target.read(raw)
            setattr(tally, outcome, getattr(tally, outcome) + 1)
        except InputError as e:
            tally.refused += 1
            if "\n" in str(e):
                tally.wrong.append(f"{case}: message of several lines: {e}")
        except Exception as e:
            tally.wrong.append(f"{case}: {type(e).__name__}: {e}")
        finally:
            signal.alarm(0)
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - start)
    target.path.write_bytes(target.valid)
    return tally


def _raise_timeout(*_: object) -> None:
    raise TimeoutError(f"longer than {TIME_LIMIT_S} s")


def make_targets(folder: Path) -> dict[str, Target]:
    """Writes the valid files into a folder; returns them with their readers."""
    return {
        "nodes": _shard(folder / "shard"),
        "triples": _triples(folder / "triples"),
        "manifest": _manifest(folder / "manifest"),
        "kg.csv": _kg(folder / "kg", ""),
        "kg.csv.gz": _kg(folder / "kg", ".gz"),
    }


def _shard(root: Path) -> Target:
    rng = np.random.default_rng(0)
    ids = [f"P{i:05d}"[: int(rng.integers(4, 7))] + f"x{i}" for i in range(120)]
    other_table = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    other = (root / other_table.shards[0].file).read_bytes()
    table = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    path = root / table.shards[0].file
    expected = np.array(read_nodes(root, table)[1])

    def read(raw: bytes) -> str:
        read_ids, x = read_nodes(root, table)
        assert read_ids == ids, "other ids"
        assert x.tobytes() == expected.tobytes(), "other vectors"
        return "same"

    return Target(path, path.read_bytes(), other, read)


def _triples(root: Path) -> Target:
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(2):
        columns = {name: rng.integers(0, 99, 1500) for name, _ in triple_layout().features}
        file = write_columns(root, "triples", "train", triple_layout(), columns)
        shards.append((root / file.shards[0].file).read_bytes())

    def read(raw: bytes) -> str:
        stored = read_columns(root, file, triple_layout())
        assert all(np.array_equal(stored[k], v) for k, v in columns.items()), "other facts"
        return "same"

    return Target(root / file.shards[0].file, shards[1], shards[0], read)


def _manifest(root: Path) -> Target:
    ids, rng = ["a", "b"], np.random.default_rng(0)
    split = {"rule": "inductive", "seed": 0, "test": 0.1, "validation": 0.05, "clean": True}
    counts = {"rows": 14, "facts": 7, "mirrored": 7, "rejects": 0}
    files = []
    for name in ("other", "openbiokg"):
        tables = tuple(
            write_nodes(
                root, node_type, ids, rng.normal(size=(2, 3)).astype(np.float32), encoder="ESM-2 µ"
            )
            for node_type in ("drug", "gene/protein")
        )
        shard = tables[0].shards[0]
        splits = ("train", "test")
        shards = {s: replace(shard, file=f"triples/{s}-00000-of-00001.tfrecord") for s in splits}
        triples = {s: SplitFile(7, (shards[s],)) for s in splits}
        valid = Manifest(name, tables, ("ppi", "target"), (), triples, {}, split, counts)
        write_manifest(root, valid)
        files.append((root / "manifest.json").read_bytes())

    def read(raw: bytes) -> str:
        manifest = read_manifest(root)
        for table in manifest.node_types:  # another dataset's manifest does not fit the shards
            read_nodes(root, table)
        assert manifest == valid, "another manifest"
        return "same"

    return Target(root / "manifest.json", files[1], files[0], read)


def _kg(root: Path, suffix: str) -> Target:
    root.mkdir(exist_ok=True)
    lines = EXCERPT.read_bytes().splitlines(keepends=True)
    text, other = b"".join(lines[:1] + lines[1::8]), b"".join(lines[:1] + lines[2::8])
    path = root / f"kg.csv{suffix}"
    path.write_bytes(gzip.compress(text) if suffix else text)
    valid_edges = _edges_by_line(path, text)
    assert len(valid_edges) == text.count(b"\n") - 1

    def read(raw: bytes) -> str:
        return _account(path, gzip.decompress(raw) if suffix else raw, valid_edges)

    def read_gzip(raw: bytes) -> str:
        """Accepts what gzip's own checksum allows: complete files, one after the other."""
        outcome = "same" if not FORMATS["primekg"](path).rejects else "accounted"
        remaining = gzip.decompress(raw)
        assert remaining, "a graph from an empty file"
        if remaining != text:
            outcome = read(raw)
        while remaining:
            complete = next((t for t in (text, other) if remaining.startswith(t)), None)
            assert complete, "a text that was never compressed"
            remaining = remaining[len(complete) :]
        return outcome

    if not suffix:
        return Target(path, text, other, read)
    return Target(path, *(gzip.compress(t, mtime=0) for t in (text, other)), read_gzip)


def _edges_by_line(path: Path, text: bytes) -> dict[bytes, tuple[str, ...]]:
    edges = FORMATS["primekg"](path)
    lines = text.split(b"\n")
    by_line = {}
    columns = (edges.head.tolist(), edges.relation.tolist(), edges.tail.tolist())
    for row, h, r, t in zip(edges.row.tolist(), *columns, strict=True):
        head, tail = edges.nodes[h], edges.nodes[t]
        by_line[lines[row - 1]] = (head.type, head.id, edges.relations[r], tail.type, tail.id)
    return by_line


def _account(path: Path, raw: bytes, valid_edges: dict[bytes, tuple[str, ...]]) -> str:
    """Checks that each line of an accepted `kg.csv` is accounted for."""
    edges = FORMATS["primekg"](path)
    body = raw.split(b"\n", 1)[1] if b"\n" in raw else b""
    lines = body.removesuffix(b"\n").split(b"\n") if body else []
    rows = sorted([*edges.row.tolist(), *(f.row for f in edges.rejects)])
    assert rows[:1] == [2][: len(lines)], "a first line that is neither a row nor a reject"
    for row, following in itertools.pairwise([*rows, len(lines) + 2]):
        spans_lines = following > row + 1 and b'"' in lines[row - 2]  # a quoted line break
        assert following == row + 1 or spans_lines, "a line that is neither a row nor a reject"
    loop = edges.head == edges.tail
    type_ids = {name: i for i, name in enumerate(sorted({n.type for n in edges.nodes}))}
    node_types = np.array([type_ids[n.type] for n in edges.nodes], np.int64)
    keep = ~loop
    out = collapse(edges.head[keep], edges.relation[keep], edges.tail[keep], node_types)
    total = len(out.facts) + out.mirrored + out.duplicates + int(loop.sum()) + len(edges.rejects)
    assert total == len(rows) == edges.num_rows, "rows that are not accounted for"
    by_line = _edges_by_line(path, raw)
    for line, edge in by_line.items():
        assert valid_edges.get(line, edge) == edge, f"another edge from the valid line {line!r}"
    return "same" if by_line == valid_edges else "accounted"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.fuzz", __doc__)
    parser.add_argument(
        "--cases", type=int, default=20_000, help="cases per target; default: 20000"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; default: 0")
    return parser


if __name__ == "__main__":
    cli.run(main)
