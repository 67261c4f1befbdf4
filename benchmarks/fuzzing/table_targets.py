"""Text files to damage: graphs, entities, feature and similarity tables, text matrices.

Most damage leaves a readable table. It is checked that every line is a row or a reject, and that a
line of the valid file gives the same row as there.
"""

import gzip
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fuzzing.case import ACCOUNTED, OTHER_VALUES, SAME, Factory, Target
from benchmarks.fuzzing.embedding_targets import IDS, X, read_all, text_of
from bridge_jax.data.embedding_files import ReadOptions
from bridge_jax.errors import InputError
from tests.helpers import source_files
from tools.formats import read_graph
from tools.formats.delimited import Finding
from tools.formats.entities import open_entities
from tools.formats.features import read_features
from tools.formats.similarity import open_similarity

EXCERPT = Path(__file__).parents[2] / "tests/fixtures/openbiokg_excerpt/kg.csv"


class Table(NamedTuple):
    """What a reader made of a file of lines.

    Attributes:
      rows: Content of each row, by the number of its first line.
      rejects: Numbers of the lines that cannot be used.
    """

    rows: Mapping[int, Any]
    rejects: tuple[int, ...]


class Lines(NamedTuple):
    """How a format uses its lines.

    Attributes:
      split: Splits bytes into records: pairs of the number of the first line and the bytes.
      first: Possible numbers of the first row.
      skips: Whether lines without a row and a reject may occur, such as blank ones and comments.
      may_lack_columns: Whether columns may be missing, so that a line means less if the header has
        changed.
    """

    split: Callable[[bytes], list[tuple[int, bytes]]]
    first: tuple[int, ...] = (2,)
    skips: bool = False
    may_lack_columns: bool = False


def lines_of(raw: bytes) -> list[tuple[int, bytes]]:
    """Returns the number and the bytes of each line."""
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")  # as the readers do
    return list(enumerate(raw.removesuffix(b"\n").split(b"\n"), 1)) if raw else []


def records_of(raw: bytes, starts: bytes = b"", ends: bytes = b"") -> list[tuple[int, bytes]]:
    """Returns the records that start with a line that starts in some way, or that end with one."""
    records: list[tuple[int, bytes]] = []
    is_new = True
    for number, line in lines_of(raw):
        if is_new or (starts and line.startswith(starts)):
            records.append((number, b""))
        first, text = records[-1]
        records[-1] = first, text + line + b"\n"
        is_new = bool(ends) and line.rstrip() == ends
    return records


TABLE = Lines(lines_of)
HEADERLESS = Lines(lines_of, (1, 2))
FEATURES = Lines(lines_of, may_lack_columns=True)
SKIPPING = Lines(lines_of, (1, 2), skips=True)
FASTA = Lines(partial(records_of, starts=b">"), (1,), skips=True)
SDF = Lines(partial(records_of, ends=b"$$$$"), (1,), skips=True)


def text_target(
    path: Path,
    valid: bytes,
    other: bytes,
    read: Callable[[Path], Table],
    lines: Lines = TABLE,
    edges: Path | None = None,
) -> Target:
    """Returns the target of a text file, plain or gzipped.

    Args:
      path: The file; gzipped if it ends with `.gz`.
      valid: Its text.
      other: Text of another dataset.
      read: Reads the table.
      lines: How the format uses its lines.
      edges: File of the rows, if the damaged one is a list of nodes beside it.
    """
    is_gzip = path.suffix == ".gz"
    pack = partial(gzip.compress, mtime=0) if is_gzip else bytes
    path.write_bytes(pack(valid))
    expected = read(path)
    text = dict(lines.split(edges.read_bytes() if edges else valid))
    by_line = {text[number]: row for number, row in expected.rows.items()}
    assert len(by_line) == len(expected.rows), "a line that occurs twice"
    assert by_line, "no row"
    assert not expected.rejects, "a reject in the valid file"

    def check(raw: bytes) -> str:
        table = read(path)
        now = dict(lines.split(edges.read_bytes() if edges else raw))
        if not edges:
            _check_accounted(table, now, lines)
        if not table.rows:
            raise InputError(f"{path}: no usable row")  # as the commands do
        intact = _intact_names(valid, raw) if edges else None
        if lines.may_lack_columns and not raw.startswith(valid.split(b"\n")[0]):
            return ACCOUNTED
        for number, row in table.rows.items():
            known = by_line.get(now.get(number, b""), row)
            if known != row and (intact is None or {known[1], known[4]} <= intact):
                raise AssertionError(f"{row} instead of {known}")
        return SAME if table == expected else ACCOUNTED

    def check_gzip(packed: bytes) -> str:
        """Accepts what gzip's own checksum allows: complete files, one after the other."""
        table = read(path)
        if not table.rows:
            raise InputError(f"{path}: no usable row")
        remaining = raw = gzip.decompress(packed)
        assert remaining, "rows from an empty file"
        while remaining:
            complete = next((t for t in (valid, other) if remaining.startswith(t)), None)
            assert complete, "a text that was never compressed"
            remaining = remaining[len(complete) :]
        return SAME if raw == valid and table == expected else check(raw)

    return Target(path, pack(valid), pack(other), check_gzip if is_gzip else check)


def _check_accounted(table: Table, now: Mapping[int, bytes], lines: Lines) -> None:
    """Checks that each line of a file is a row, a reject or a part of the row before."""
    numbers = sorted([*table.rows, *table.rejects])
    assert len(set(numbers)) == len(numbers), "a line with two rows"
    if lines.skips:
        assert set(numbers) <= now.keys(), "a row that starts within a record"
        return
    assert set(numbers[:1]) <= set(lines.first), "a first line without a row or a reject"
    assert numbers or len(now) < max(lines.first), "no line is accounted for"
    for number, following in itertools.pairwise([*numbers, max(now, default=0) + 1]):
        spans_lines = following > number + 1 and b'"' in now[number]
        assert following == number + 1 or spans_lines, "a line without a row or a reject"


def _intact_names(valid: bytes, raw: bytes) -> set[str]:
    """Returns the fields of the lines of a list of nodes that are as before, and only once."""
    lines = raw.split(b"\n")
    names: set[str] = set()
    for line in valid.split(b"\n")[1:]:
        fields = line.replace(b'"', b"").split(b"\t")
        if lines.count(line) == 1 and raw.count(fields[0]) == valid.count(fields[0]):
            names |= {f.decode() for f in fields}
    return names


def read_edges(path: Path, format_name: str) -> Table:
    """Reads a graph; a row is the types, ids and the relation of an edge."""
    edges = read_graph(format_name, path)
    assert edges.num_rows == len(edges.row) + sum(f.num_rows for f in edges.rejects)
    rows = {}
    columns = (edges.row, edges.head, edges.relation, edges.tail)
    for row, h, r, t in zip(*(c.tolist() for c in columns), strict=True):
        head, tail = edges.nodes[h], edges.nodes[t]
        rows[row] = (head.type, head.id, edges.relations[r], tail.type, tail.id)
    assert len(rows) == len(edges.row), "a line with two edges"
    return Table(rows, tuple(f.row for f in edges.rejects))


def _graph(folder: Path, source: str, format_name: str, file: str = "", nodes: str = "") -> Target:
    """Writes a graph of `source_files`; damages its edges, or its list of nodes."""
    place = folder / format_name / source
    place.parent.mkdir(exist_ok=True)
    source_files.write_graph(place)
    edges = place / file if file else place
    path = place / nodes if nodes and place.is_dir() else place.with_name(nodes or place.name)
    path = path if nodes else edges
    raw = path.read_bytes()
    valid = gzip.decompress(raw) if path.suffix == ".gz" else raw
    other = valid.replace(b"P0", b"Q0").replace(b"DB0", b"DC0")
    if other == valid:  # rows of numbers
        other = valid.replace(b",2", b",1")
    lines = {"primekg": TABLE, "txgnn": TABLE, "kgx": TABLE, "biobridge": TABLE}
    lines |= {"ntriples": SKIPPING}
    read = partial(_read_place, place, format_name)
    use = lines.get(format_name, HEADERLESS)
    return text_target(path, valid, other, read, use, edges if nodes else None)


def _read_place(place: Path, format_name: str, _: Path) -> Table:
    return read_edges(place, format_name)


def _kg(folder: Path, suffix: str) -> Target:
    lines = EXCERPT.read_bytes().splitlines(keepends=True)
    text, other = (b"".join(lines[:1] + lines[i::8]) for i in (1, 2))
    read = partial(read_edges, format_name="primekg")
    return text_target(folder / f"kg.csv{suffix}", text, other, read)


def _findings(findings: Iterable[Finding]) -> tuple[int, ...]:
    return tuple(f.row for f in findings if f.num_rows)


def read_entity_rows(path: Path, format_name: str) -> Table:
    """Reads a file of entities."""
    findings: list[Finding] = []
    id_column = "DATABASE_ID" if format_name == "sdf" else ""
    rows = {r.row: r for r in open_entities(path, format_name, id_column).read(findings)}
    return Table(rows, _findings(findings))


def _entities(folder: Path, file: str, format_name: str, lines: Lines) -> Target:
    path = folder / file
    source_files.write_entities(path)
    raw = path.read_bytes()
    valid = gzip.decompress(raw) if path.suffix == ".gz" else raw
    other = valid.replace(b"P0", b"Q0").replace(b"DB0", b"DC0")
    return text_target(
        path, valid, other, partial(read_entity_rows, format_name=format_name), lines
    )


def _feature_text(start: str) -> bytes:
    rows = [f'{i},{start}{i},"name, {i}",MKT{"A" * i}' for i in range(20)]
    return "\n".join(["node_index,node_id,node_name,sequence", *rows, ""]).encode()


def _features(folder: Path, suffix: str) -> Target:
    def read(path: Path) -> Table:
        findings: list[Finding] = []
        rows = {r.row: r for r in read_features(path, findings=findings)}
        return Table(rows, _findings(findings))

    valid, other = _feature_text("N"), _feature_text("M")
    return text_target(folder / f"features.csv{suffix}", valid, other, read, FEATURES)


def read_pairs(path: Path) -> Table:
    """Reads a similarity table."""
    rows: dict[int, Any] = {}
    rejects: list[int] = []
    for part in open_similarity(path).read():
        columns = (part.query, part.target)
        query, target = ([c.values[i] for i in c.codes.tolist()] for c in columns)
        rows |= dict(
            zip(
                part.rows.tolist(),
                zip(query, target, part.score.tolist(), strict=True),
                strict=True,
            )
        )
        rejects += [f.row for f in part.rejects]
    return Table(rows, tuple(rejects))


def _blast(folder: Path) -> Target:
    def text(a: str, b: str) -> bytes:
        rest = "99.1\t120\t1\t0\t1\t120\t1\t120\t1e-30"
        return "".join(f"{a}{i}\t{b}{i}\t{rest}\t{100 + i}\n" for i in range(20)).encode()

    return text_target(
        folder / "blast.tsv", text("P0", "P1"), text("Q0", "Q1"), read_pairs, HEADERLESS
    )


def _scores(folder: Path) -> Target:
    def text(a: str, b: str) -> bytes:
        rows = [f"{a}{i},{b}{i},{i / 7}" for i in range(20)]
        return "\n".join(["query,target,score", *rows, ""]).encode()

    return text_target(folder / "similarity.csv", text("P0", "P1"), text("Q0", "Q1"), read_pairs)


def _parquet(
    folder: Path, file: str, read: Callable[[Path], Any], names: tuple[str, ...]
) -> Target:
    """Returns the target of a table in Parquet: rows of two texts and, for similarity, a score."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / file
    made = []
    for start in ("Q", "P"):
        columns: list[Any] = [[f"{start}{k}{i}" for i in range(20)] for k in range(2)]
        columns += [np.arange(20.0)][: len(names) - 2]
        table = pa.table(dict(zip(names, columns, strict=True)))
        pq.write_table(table, path, write_page_checksum=start == "P")
        made.append((path.read_bytes(), read(path)))
    (other, other_content), (valid, content) = made

    def check(_: bytes) -> str:
        found = read(path)
        if found == content:
            return SAME
        if found == other_content:
            return ACCOUNTED
        assert len(found.rows) + len(found.rejects) == 20, "another number of rows"
        return OTHER_VALUES

    return Target(path, valid, other, check, has_checksum=False)


def _matrix(folder: Path, file: str, delimiter: str) -> Target:
    """Returns the target of a text matrix; it has no rejects, as one bad row refuses the file."""

    def text(start: str) -> bytes:
        header = f"20{delimiter}6" if delimiter == " " else delimiter.join(["id", *"abcdef"])
        rows = [
            delimiter.join([i.replace("P", start), *map(str, x)])
            for i, x in zip(IDS, X, strict=True)
        ]
        return "\n".join([header, *rows, ""]).encode()

    def read(path: Path) -> Table:
        ids, x, faults = read_all(path, ReadOptions())
        raw = path.read_bytes()
        lines = text_of(gzip.decompress(raw) if path.suffix == ".gz" else raw).split("\n")
        filled = [i for i, line in enumerate(lines, 1) if line.strip()]
        assert len(ids) in (len(filled), len(filled) - 1), "a line without a row"
        numbers = filled[len(filled) - len(ids) :]
        rows = {n: (i, v.tobytes()) for n, i, v in zip(numbers, ids, x, strict=True)}
        return Table({n: r for k, (n, r) in enumerate(rows.items()) if k not in faults},
                     tuple(n for k, n in enumerate(numbers) if k in faults))  # fmt: skip

    lines = Lines(_universal_lines, (1, 2), skips=True)
    return text_target(folder / file, text("P"), text("Q"), read, lines)


def _universal_lines(raw: bytes) -> list[tuple[int, bytes]]:
    return [(n, line.encode()) for n, line in enumerate(text_of(raw).split("\n"), 1)]


def factories() -> dict[str, Factory]:
    """Returns the targets by name; each is made in a folder."""
    graph = partial(partial, _graph)
    return {
        "kg.csv": partial(_kg, suffix=""),
        "kg.csv.gz": partial(_kg, suffix=".gz"),
        "PrimeKG edges": graph(source="dataverse_files", format_name="primekg", file="edges.csv"),
        "PrimeKG nodes": graph(source="dataverse_files", format_name="primekg", file="edges.csv",
                               nodes="nodes.tab"),
        "TxGNN": graph(source="kg.csv", format_name="txgnn"),
        "DRKG": graph(source="drkg.tsv", format_name="drkg"),
        "Hetionet": graph(source="hetionet-v1.0-edges.sif.gz", format_name="hetionet"),
        "tsv": graph(source="mine.tsv", format_name="tsv"),
        "OpenBioLink edges": graph(source="HQ_DIR", format_name="openbiolink",
                                   file="graph_files/edges.csv"),
        "OpenBioLink nodes": graph(source="HQ_DIR", format_name="openbiolink",
                                   file="graph_files/edges.csv", nodes="graph_files/nodes.csv"),
        "KGX edges": graph(source="monarch-kg_edges.tsv", format_name="kgx"),
        "KGX nodes": graph(source="monarch-kg_edges.tsv", format_name="kgx",
                           nodes="monarch-kg_nodes.tsv"),
        "N-Triples": graph(source="graph.nt.gz", format_name="ntriples"),
        "BioBridge": graph(source="BioBridge", format_name="biobridge",
                           file="data/BindData/triplet_full.csv"),
        "FASTA": partial(_entities, file="proteins.fasta", format_name="fasta", lines=FASTA),
        "FASTA gz": partial(_entities, file="proteins.fasta.gz", format_name="fasta", lines=FASTA),
        "SMILES": partial(_entities, file="drugs.smi", format_name="smi", lines=SKIPPING),
        "SDF": partial(_entities, file="structures.sdf", format_name="sdf", lines=SDF),
        "UniProt": partial(_entities, file="uniprot.tsv", format_name="table", lines=FEATURES),
        "entities Parquet": partial(_parquet, file="entities.parquet", names=("id", "smiles"),
                                    read=partial(read_entity_rows, format_name="parquet")),
        "features": partial(_features, suffix=""),
        "features gz": partial(_features, suffix=".gz"),
        "BLAST": _blast,
        "similarity": _scores,
        "similarity Parquet": partial(_parquet, file="similarity.parquet", read=read_pairs,
                                      names=("query", "target", "score")),
        "CSV matrix": partial(_matrix, file="a.csv", delimiter=","),
        "TSV matrix gz": partial(_matrix, file="b.tsv.gz", delimiter="\t"),
        "word2vec": partial(_matrix, file="c.vec", delimiter=" "),
    }  # fmt: skip
