"""Damage valid files at random and see that no damage is taken for data.

    python benchmarks/fuzz.py --cases 20000 --seed 0

Five targets: a shard of nodes, one of triples, the manifest, `kg.csv`, and the same gzipped. A case
is one to three mutations of a file's bytes (see `MUTATIONS`). The reader must either raise
`InputError` or give what it gives for the sound file; no other exception, and no case longer than
ten seconds.

A changed `kg.csv` is often another valid graph, so of what is accepted there it is checked that
every line is a row or a reject, that rows = facts + mirrored + duplicates + rejects, and that every
line which the sound file has too still gives the same edge. A whole gzip file of another graph, or
several packed one after the other, are valid too; nothing else that is packed may be accepted.
"""

import argparse
import gzip
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridge_jax import cli
from bridge_jax.data.dataset import (
    Manifest,
    TripleFile,
    read_blocks,
    read_manifest,
    read_nodes,
    write_blocks,
    write_manifest,
    write_nodes,
)
from bridge_jax.data.splits import collapse
from bridge_jax.data.tfrecord import triple_layout
from bridge_jax.errors import InputError
from tools.formats import FORMATS

EXCERPT = Path(__file__).parents[1] / "tests/fixtures/openbiokg_excerpt/kg.csv"
LIMIT_S = 10


@dataclass
class Tally:
    """What became of a target's cases."""

    refused: int = 0
    same: int = 0
    accounted: int = 0
    slowest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Target:
    """A file to damage; `other` is the same file of another dataset.

    `read` reads it and says `same` or `accounted`; anything else is an exception.
    """

    path: Path
    sound: bytes
    other: bytes
    read: Callable[[bytes], str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="a target; default: 20000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tallies = {}
        for name, target in targets(Path(folder)).items():
            tallies[name] = fuzz(target, args.cases, args.seed)
    rows = [
        [n, args.cases, t.refused, t.same, t.accounted, len(t.wrong), f"{t.slowest_s * 1e3:.0f} ms"]
        for n, t in tallies.items()
    ]
    header = ("file", "cases", "refused", "same content", "accounted for", "wrong", "slowest")
    print(cli.table(rows, header))
    kinds = sorted({k for t in tallies.values() for k in t.kinds})
    print("\n" + cli.table([[k, *(t.kinds[k] for t in tallies.values())] for k in kinds],
                            ("mutation", *tallies)))  # fmt: skip
    wrong = [f"{n}: {w}" for n, t in tallies.items() for w in t.wrong]
    print("\n".join(["", *wrong]))
    return 1 if wrong else 0


def fuzz(target: Target, cases: int, seed: int) -> Tally:
    """Damage a file many times.

    Args:
      target: the file.
      cases: how many times.
      seed: case k depends on the seed and k alone.
    """
    tally = Tally()
    signal.signal(signal.SIGALRM, _too_long)
    for k in range(cases):
        raw, kinds = mutate(target.sound, target.other, np.random.default_rng((seed, k)))
        tally.kinds.update(kinds)
        target.path.write_bytes(raw)
        start = time.perf_counter()
        signal.alarm(LIMIT_S)
        try:
            verdict = target.read(raw)
            setattr(tally, verdict, getattr(tally, verdict) + 1)
        except InputError as e:
            tally.refused += 1
            if "\n" in str(e):
                tally.wrong.append(f"case {k} ({', '.join(kinds)}): message of several lines: {e}")
        except Exception as e:
            tally.wrong.append(f"case {k} ({', '.join(kinds)}): {type(e).__name__}: {e}")
        finally:
            signal.alarm(0)
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - start)
    target.path.write_bytes(target.sound)
    return tally


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {LIMIT_S} s")


def mutate(raw: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, list[str]]:
    """Change some bytes of a file.

    Args:
      raw: the sound bytes.
      other: the bytes of another file of its kind.
      rng: chooses.

    Returns:
      The changed bytes, and the names of what was done to them.
    """
    names = []
    for _ in range(int(rng.integers(1, 4))):
        name = list(MUTATIONS)[int(rng.integers(len(MUTATIONS)))]
        raw = MUTATIONS[name](raw, other, rng)
        names.append(name)
    return raw, names


def _span(raw: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Where a block begins and ends; half of the blocks are of a few bytes."""
    size = int(rng.integers(1, 9) if rng.random() < 0.5 else rng.integers(1, 2 + len(raw) // 4))
    start = int(rng.integers(0, max(1, len(raw) - size + 1)))
    return start, min(len(raw), start + size)


def _flip(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(raw)
    for at in rng.integers(0, max(len(out), 1), int(rng.integers(1, 9)) if out else 0).tolist():
        out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _overwrite(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    fill = rng.bytes(b - a) if rng.random() < 0.5 else bytes([int(rng.integers(256))]) * (b - a)
    return raw[:a] + fill + raw[b:]


def _cut(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw) + 1))]


def _extend(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw + (raw[a:b] if rng.random() < 0.5 else rng.bytes(b - a))


def _swap(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    (a, b), (c, d) = sorted((_span(raw, rng), _span(raw, rng)))
    c, d = max(b, c), max(b, d)
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def _repeat(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw[:b] + raw[a:b] + raw[b:]


def _remove(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw[:a] + raw[b:]


def _copy_over(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    to = int(rng.integers(0, len(raw) - (b - a) + 1)) if raw else 0
    return raw[:to] + raw[a:b] + raw[to + b - a :]


def _lines(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Move whole lines, as an editor would."""
    lines = raw.splitlines(keepends=True)
    if len(lines) > 1:
        a, b = rng.integers(0, len(lines), 2).tolist()
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _word(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Change a digit or a letter for another."""
    places = [i for i, c in enumerate(raw[:100_000]) if chr(c).isalnum() and c < 128]
    if not places:
        return raw
    at = places[int(rng.integers(len(places)))]
    pool = b"0123456789" if raw[at : at + 1].isdigit() else b"abcdefghijklmnopqrstuvwxyz"
    return raw[:at] + bytes([pool[int(rng.integers(len(pool)))]]) + raw[at + 1 :]


def _punctuate(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Insert what means something to a parser."""
    at = int(rng.integers(0, len(raw) + 1))
    marks = (
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\t",
        b"\0",
        b"{",
        b"]",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\\u0000",
    )
    return raw[:at] + marks[int(rng.integers(len(marks)))] + raw[at:]


def _foreign(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The file of another dataset under this name, or a part of it in this place."""
    if rng.random() < 0.3:
        return other
    a, b = _span(other, rng)
    return raw[:a] + other[a:b] + raw[b:]


MUTATIONS: dict[str, Callable[[bytes, bytes, np.random.Generator], bytes]] = {
    "flip bits": _flip,
    "overwrite a block": _overwrite,
    "cut the end": _cut,
    "extend the end": _extend,
    "swap two blocks": _swap,
    "repeat a block": _repeat,
    "remove a block": _remove,
    "copy a block over another": _copy_over,
    "swap two lines": _lines,
    "change a letter or digit": _word,
    "insert a mark": _punctuate,
    "a file of another dataset": _foreign,
}


def targets(folder: Path) -> dict[str, Target]:
    """The sound files, written into a folder, and their readers."""
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
    other = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    foreign = (root / other.shards[0].file).read_bytes()
    table = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    path = root / table.shards[0].file
    sound = np.array(read_nodes(root, table)[1])

    def read(raw: bytes) -> str:
        found, x = read_nodes(root, table)
        assert found == ids, "other ids"
        assert x.tobytes() == sound.tobytes(), "other vectors"
        return "same"

    return Target(path, path.read_bytes(), foreign, read)


def _triples(root: Path) -> Target:
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(2):
        columns = {name: rng.integers(0, 99, 1500) for name, _ in triple_layout().features}
        file = write_blocks(root, "triples", "train", triple_layout(), columns)
        shards.append((root / file.shards[0].file).read_bytes())

    def read(raw: bytes) -> str:
        found = read_blocks(root, file, triple_layout())
        assert all(np.array_equal(found[k], v) for k, v in columns.items()), "other facts"
        return "same"

    return Target(root / file.shards[0].file, shards[1], shards[0], read)


def _manifest(root: Path) -> Target:
    ids, rng = ["a", "b"], np.random.default_rng(0)
    split = {"rule": "inductive", "seed": 0, "test": 0.1, "validation": 0.05, "clean": True}
    counts = {"rows": 14, "facts": 7, "mirrored": 7, "rejects": 0}
    both = []
    for name in ("other", "openbiokg"):
        tables = tuple(
            write_nodes(
                root, kind, ids, rng.normal(size=(2, 3)).astype(np.float32), encoder="ESM-2 µ"
            )
            for kind in ("drug", "gene/protein")
        )
        triples = {s: TripleFile(7, tables[0].shards) for s in ("train", "test")}
        sound = Manifest(name, tables, ("ppi", "target"), (), triples, {}, split, counts)
        write_manifest(root, sound)
        both.append((root / "manifest.json").read_bytes())

    def read(raw: bytes) -> str:
        found = read_manifest(root)
        for table in found.node_types:  # another dataset's manifest does not fit the shards
            read_nodes(root, table)
        assert found == sound, "another manifest"
        return "same"

    return Target(root / "manifest.json", both[1], both[0], read)


def _kg(root: Path, suffix: str) -> Target:
    root.mkdir(exist_ok=True)
    lines = EXCERPT.read_bytes().splitlines(keepends=True)
    text, other = b"".join(lines[:1] + lines[1::8]), b"".join(lines[:1] + lines[2::8])
    path = root / f"kg.csv{suffix}"
    path.write_bytes(gzip.compress(text) if suffix else text)
    sound = _edges_by_line(path, text)
    assert len(sound) == text.count(b"\n") - 1

    def read(raw: bytes) -> str:
        return _account(path, gzip.decompress(raw) if suffix else raw, sound)

    def read_packed(raw: bytes) -> str:
        """What gzip's own checksum vouches for: whole files, one after the other."""
        verdict = "same" if not FORMATS["primekg"](path).rejects else "accounted"
        left = gzip.decompress(raw)
        assert left, "a graph out of nothing"
        if left != text:
            verdict = read(raw)
        while left:
            whole = next((t for t in (text, other) if left.startswith(t)), None)
            assert whole, "a text that was never packed"
            left = left[len(whole) :]
        return verdict

    if not suffix:
        return Target(path, text, other, read)
    return Target(path, *(gzip.compress(t, mtime=0) for t in (text, other)), read_packed)


def _edges_by_line(path: Path, text: bytes) -> dict[bytes, tuple[str, ...]]:
    edges = FORMATS["primekg"](path)
    lines = text.split(b"\n")
    out = {}
    columns = (edges.head.tolist(), edges.relation.tolist(), edges.tail.tolist())
    for row, h, r, t in zip(edges.row.tolist(), *columns, strict=True):
        head, tail = edges.nodes[h], edges.nodes[t]
        out[lines[row - 1]] = (head.type, head.id, edges.relations[r], tail.type, tail.id)
    return out


def _account(path: Path, raw: bytes, sound: dict[bytes, tuple[str, ...]]) -> str:
    edges = FORMATS["primekg"](path)
    body = raw.split(b"\n", 1)[1] if b"\n" in raw else b""
    lines = body.count(b"\n") + bool(body and not body.endswith(b"\n"))
    places = sorted([*edges.row.tolist(), *(f.row for f in edges.rejects)])
    assert places == list(range(2, lines + 2)), "a line that is neither a row nor a reject"
    loop = edges.head == edges.tail
    types = {name: i for i, name in enumerate(sorted({n.type for n in edges.nodes}))}
    types_of = np.array([types[n.type] for n in edges.nodes], np.int64)
    keep = ~loop
    out = collapse(edges.head[keep], edges.relation[keep], edges.tail[keep], types_of)
    total = len(out.facts) + out.mirrored + out.duplicates + int(loop.sum()) + len(edges.rejects)
    assert total == lines == edges.rows, "rows that are not accounted for"
    found = _edges_by_line(path, raw)
    for line, edge in found.items():
        assert sound.get(line, edge) == edge, f"another edge out of the sound line {line!r}"
    return "same" if found == sound else "accounted"


if __name__ == "__main__":
    cli.run(main)
