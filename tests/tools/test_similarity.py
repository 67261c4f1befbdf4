"""Similarity tables: reading, matching to nodes, storing, subsetting and checking."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.manifest import read_manifest, write_manifest
from bridge_jax.data.similarity import (
    SimilarityPairs,
    load_similarity,
    read_similarity,
    write_similarity,
)
from bridge_jax.errors import InputError
from tests.helpers.excerpt import import_excerpt
from tests.helpers.tiny_run import ROOT
from tools import align, subset, verify_shards
from tools.formats.similarity import open_similarity
from tools.ingest.aligners import ALIGNERS

pytestmark = pytest.mark.usefixtures("no_fsync")

PROTEIN = "gene/protein"
BLAST = "{}\t{}\t98.5\t120\t3\t0\t1\t120\t5\t124\t1e-30\t{}\n"


@pytest.fixture(scope="module")
def proteins(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ids of the excerpt's proteins, in the order of the dataset."""
    root = import_excerpt(tmp_path_factory.mktemp("ids"))
    return read_nodes(root, read_manifest(root).table(PROTEIN))[0]


def read(path: Path) -> tuple[list[tuple[str, str, float]], int]:
    """Returns all usable pairs of a file, and the number of rejects."""
    pairs, rejects = [], 0
    for rows in open_similarity(path).read():
        for q, t, s in zip(rows.query.codes, rows.target.codes, rows.score, strict=True):
            pairs.append((rows.query.values[q], rows.target.values[t], float(s)))
        rejects += len(rows.rejects)
    return pairs, rejects


def stored(root: Path) -> dict[tuple[str, str], float]:
    """Returns the stored pairs of proteins by their ids."""
    manifest = read_manifest(root)
    ids = read_nodes(root, manifest.table(PROTEIN))[0]
    matrix = load_similarity(root, manifest, PROTEIN)
    assert matrix is not None
    assert matrix.has_sorted_indices
    coo = matrix.tocoo()
    return {(ids[q], ids[t]): float(s) for q, t, s in zip(*coo.coords, coo.data, strict=True)}


def test_every_row_is_accounted_for(
    tmp_path: Path, proteins: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = proteins[:3]
    table = tmp_path / "hits.m8"
    rows = [(a, a, 500), (a, b, 61.5), (a, b, 70.25), (b, a, 70), (a, c, 50), ("P00", a, 44),
            (c, "P00", 43)]  # fmt: skip
    table.write_text("".join(BLAST.format(*row) for row in rows) + "a\tb\t1\n"
                     + BLAST.format(b, c, "high"))  # fmt: skip
    root = import_excerpt(tmp_path, "--similarity", f"{PROTEIN}={table}")
    assert stored(root) == {(a, b): 70.25, (b, a): 70.0, (a, c): 50.0}
    manifest = read_manifest(root)
    counts = {k.removeprefix(f"similarity of {PROTEIN}: "): n for k, n in manifest.counts.items()
              if k.startswith("similarity")}  # fmt: skip
    assert counts == {
        "rows": 9, "pairs": 3, "rejected, see rejects.tsv": 2, "of a node with itself": 1,
        "with an unknown id": 2, "repeated": 1,
    }  # fmt: skip
    assert (manifest.similarity[PROTEIN].score, manifest.similarity[PROTEIN].source) == (
        "bits", "hits.m8",
    )  # fmt: skip
    output = capsys.readouterr().out
    assert "hits.m8: 3 of 4 ids are gene/protein nodes" in output
    assert "not matched, e.g. 'P00'" in output
    rejects = (root / "rejects.tsv").read_text()
    assert "hits.m8\t8\t0\t3 fields where there should be 12" in rejects
    assert "hits.m8\t9\t0\tthe score is not a finite number" in rejects
    assert verify_shards.main([str(root)]) == 0


def test_a_dataset_without_a_table_has_no_trace_of_it(excerpt_dataset: Path) -> None:
    value = json.loads((excerpt_dataset / "manifest.json").read_text())
    assert "similarity" not in value
    manifest = read_manifest(excerpt_dataset)
    assert load_similarity(excerpt_dataset, manifest, PROTEIN) is None
    with pytest.raises(InputError, match="node type 'protein'"):
        load_similarity(excerpt_dataset, manifest, "protein")


@pytest.mark.parametrize(
    "text",
    [
        "query,target,score\na,b,1.5\nb,a,2\n",
        "target;score;query\nb;1.5;a\na;2;b\n",
        '"query"\t"target"\t"score"\n"a"\t"b"\t1.5\n"b"\t"a"\t2\n',
        "qseqid\tsseqid\tbitscore\na\tb\t1.5\nb\ta\t2\n",
        "query\ttarget\tfident\tbits\na\tb\t0.9\t1.5\nb\ta\t0.9\t2\n",
        "# BLASTP\n# Fields: query acc.\n" + BLAST.format("a", "b", 1.5) + BLAST.format("b", "a", 2)
        + "# end\n",
    ],
)  # fmt: skip
def test_tables_of_all_kinds_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table"
    path.write_text(text)
    assert read(path) == ([("a", "b", 1.5), ("b", "a", 2.0)], 0)


@pytest.mark.parametrize(
    ("program", "num_rows", "score"), [("diamond", 66, 264), ("mmseqs", 68, 266)]
)
def test_the_output_of_aligners_is_imported(
    tmp_path: Path, program: str, num_rows: int, score: float
) -> None:
    file = ROOT / f"tests/fixtures/proteins/{program}.m8"
    root = import_excerpt(tmp_path, "--similarity", f"protein={file}")
    counts = read_manifest(root).counts
    assert counts[f"similarity of {PROTEIN}: rows"] == num_rows
    assert counts[f"similarity of {PROTEIN}: of a node with itself"] == 34
    pairs = stored(root)
    assert len(pairs) == counts[f"similarity of {PROTEIN}: pairs"] == num_rows - 34
    assert pairs["P04637", "Q9H3D4"] == score  # p53 and p63
    assert pairs["P01112", "P01116"] > 300  # HRAS and KRAS
    assert ("P04637", "P01112") not in pairs
    asymmetric = [(q, t) for q, t in pairs if pairs.get((t, q)) != pairs[q, t]]
    assert asymmetric


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_proteins_are_aligned_and_imported(
    tmp_path: Path, aligner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which(aligner):
        pytest.skip(f"{aligner} is not installed")
    fasta, table = ROOT / "tests/fixtures/proteins/proteins.fasta", tmp_path / "similarity.tsv"
    argv = ["--input", str(fasta), "--output", str(table), "--aligner", aligner, "--threads", "1"]
    assert align.main(argv) == 0
    assert "8 sequences of 8 ids in 8 rows" in capsys.readouterr().out
    pairs = {(q, t): s for q, t, s in read(table)[0]}
    assert {("P01111", "P01112"), ("P17302", "P29033"), ("Q9H3D4", "P04637")} <= pairs.keys()
    assert not [q for q, t in pairs if q == t]
    assert not [q for q, _ in pairs if q == "P02649"]  # apolipoprotein E, like none of the others
    assert stored(import_excerpt(tmp_path, "--similarity", f"protein={table}")) == pairs
    with pytest.raises(InputError, match="exists already; pass --overwrite"):
        align.main(argv)
    assert align.main([*argv, "--overwrite"]) == 0


def test_a_missing_aligner_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    argv = ["--input", str(tmp_path / "x.fasta"), "--output", str(tmp_path / "y.tsv")]
    with pytest.raises(InputError, match="Debian's package diamond-aligner or mmseqs2"):
        align.main(argv)
    with pytest.raises(InputError, match=r"mmseqs is not on the PATH; .* package mmseqs2"):
        align.main([*argv, "--aligner", "mmseqs"])


def test_parquet_of_pandas_is_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "table.parquet"
    frame = pandas.DataFrame(
        {"query": ["a", "b", None], "target": ["b", "a", "a"], "score": [1.5, np.nan, 3]}
    )
    frame.to_parquet(path)
    assert read(path) == ([("a", "b", 1.5)], 2)
    frame.astype({"query": "category"}).to_parquet(path)
    assert read(path) == ([("a", "b", 1.5)], 2)
    pandas.DataFrame({"query": [1.0], "target": [7], "score": [2]}).to_parquet(path)
    assert read(path) == ([("1.0", "7", 2.0)], 0)  # 1.0 is matched as 1
    frame.rename(columns={"score": "evalue"}).to_parquet(path)
    with pytest.raises(InputError, match="no column score among 'query', 'target', 'evalue'"):
        read(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize(
    "text", ["a\tb\t1.5\n", "a,b\n1,2\n", "query,target,score,bits\na,b,1,2\n"]
)
def test_a_table_without_the_columns_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"columns? \w+ among .*; a similarity table has"):
        open_similarity(path)


@pytest.mark.parametrize(
    ("argument", "text", "message"),
    [
        (PROTEIN, "", "expected <node type>=<file>"),
        ("drug={}", "query,target,score\n", "--similarity 'drug' is not"),
        ("protein={}", "query,target,score\n", "no pair of two gene/protein nodes: 0 rows"),
        ("protein={}", "query,target,score\n{0},{0},1\n", "1 of a node with itself"),
        ("protein={}", "query,target,score\nQ1,Q2,1\n", "none of the 2 ids is a gene/protein"),
        ("protein={}", "query,target,score\n{0},{1},1\n{0},x,1\n{0},y,1\n{0},z,1\n",
         "2 of 5 ids .* or accept these with --allow-unmatched"),
        ("protein={}", "query,target,score\n{0},{1},1e39\n", "1 rejected"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, proteins: list[str], argument: str, text: str, message: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text.format(*proteins))
    with pytest.raises(InputError, match=message):
        import_excerpt(tmp_path, "--similarity", argument.format(path))
    assert not (tmp_path / "out").exists()


def test_ids_are_cut_out_and_low_matches_accepted_when_asked(
    tmp_path: Path, proteins: list[str]
) -> None:
    a, b = proteins[:2]
    path = tmp_path / "table.csv"
    path.write_text(f"query,target,score\nsp|{a}|A,sp|{b}|B,3\nx,y,1\nz,{b},1\n")
    options = ["--id-pattern", r"sp\|(.+)\|", "--allow-unmatched"]
    root = import_excerpt(tmp_path, "--similarity", f"protein={path}", *options)
    assert stored(root) == {(a, b): 3.0}


def test_a_subset_keeps_the_pairs_of_its_nodes(tmp_path: Path, proteins: list[str]) -> None:
    rng = random.Random(0)
    pairs = {(rng.choice(proteins), rng.choice(proteins)): rng.random() for _ in range(2000)}
    path = tmp_path / "table.csv"
    path.write_text("query,target,score\n"
                    + "".join(f"{q},{t},{s}\n" for (q, t), s in pairs.items()))  # fmt: skip
    root = import_excerpt(tmp_path, "--similarity", f"protein={path}")
    whole = stored(root)
    assert whole.keys() == {(q, t) for q, t in pairs if q != t}
    small = tmp_path / "small"
    subset.main([str(root), "--output", str(small), "--keep", f"{PROTEIN}=30",
                 "--keep", "biological_process=40"])  # fmt: skip
    kept = set(read_nodes(small, read_manifest(small).table(PROTEIN))[0])
    assert 20 < len(kept) < len(proteins)
    assert stored(small) == {k: s for k, s in whole.items() if set(k) <= kept}
    assert read_similarity(small, read_manifest(small), "biological_process") is None
    assert verify_shards.main([str(small)]) == 0


DAMAGE: dict[str, Callable[[SimilarityPairs], SimilarityPairs]] = {
    r"a node is not from 0 to": lambda p: p._replace(target=np.array([9, 1 << 20])),
    "a node is its own neighbour": lambda p: p._replace(target=p.query),
    "the score is not finite": lambda p: p._replace(score=np.array([1, np.nan])),
    "out of order or repeated": lambda p: p._replace(
        query=p.query[[0, 0]], target=p.target[[0, 0]]
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_faulty_table_is_found(
    tmp_path: Path, proteins: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    a, b, c = proteins[:3]
    path.write_text(f"query,target,score\n{a},{b},3\n{b},{c},4\n")
    root = import_excerpt(tmp_path, "--similarity", f"protein={path}")
    manifest = read_manifest(root)
    pairs = read_similarity(root, manifest, PROTEIN)
    assert pairs is not None
    table = write_similarity(root, PROTEIN, DAMAGE[message](pairs))
    write_manifest(root, replace(manifest, similarity={PROTEIN: table}))
    with pytest.raises(InputError, match=message):
        load_similarity(root, read_manifest(root), PROTEIN)
    assert verify_shards.main([str(root)]) == 1
    assert message.split(" to")[0] in capsys.readouterr().out


def test_an_altered_byte_is_found(tmp_path: Path, proteins: list[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"query,target,score\n{proteins[0]},{proteins[1]},3\n")
    root = import_excerpt(tmp_path, "--similarity", f"protein={path}")
    manifest = read_manifest(root)
    shard = root / manifest.similarity[PROTEIN].shards[0].file
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(InputError, match="CRC-32C"):
        load_similarity(root, manifest, PROTEIN)
    assert verify_shards.main([str(root)]) == 1


@given(st.data())
def test_rows_are_pairs_or_rejects_whatever_the_layout(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    id_ = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=4)
    number = st.integers(-(1 << 20), 1 << 20).map(lambda i: i / 8)
    rows = data.draw(st.lists(st.tuples(id_, id_, number), min_size=1, max_size=20))
    separator = data.draw(st.sampled_from(",\t;|"))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    broken = data.draw(st.integers(0, 3))
    lines = [separator.join(map(str, row)) for row in (("query", "target", "score"), *rows)]
    lines += [separator.join("xy")] * broken
    path = tmp_path_factory.mktemp("table") / "table"
    path.write_bytes((end.join(lines) + end).encode(encoding))
    pairs, rejects = read(path)
    assert [(q, t) for q, t, _ in pairs] == [(q, t) for q, t, _ in rows]
    assert [s for *_, s in pairs] == [s for *_, s in rows]
    assert rejects == broken
