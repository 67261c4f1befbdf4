"""Readers of graph formats: each gets realistic files with faulty rows, and loses no row."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
from tests.helpers.excerpt import write_embeddings
from tests.helpers.graph_formats import (
    CASES,
    FormatCase,
    write,
    write_biobridge,
    write_graph_files,
    write_kg,
    write_primekg_folder,
    write_samples,
    write_tsv,
)
from tests.helpers.tiny_run import EXCERPT
from tools.formats import FORMATS
from tools.formats.delimited import Finding
from tools.formats.edges import Edges, SourceNode, label
from tools.import_graph import main

pytestmark = pytest.mark.usefixtures("no_fsync")


def triples(edges: Edges) -> list[tuple[str, str, str]]:
    columns = (edges.head.tolist(), edges.relation.tolist(), edges.tail.tolist())
    return [
        (label(edges.nodes[h]), edges.relations[r], label(edges.nodes[t]))
        for h, r, t in zip(*columns, strict=True)
    ]


def reasons(findings: list[Finding]) -> dict[str, int]:
    return dict(Counter(f.reason for f in findings))


def import_counts(folder: Path, format_name: str, source: Path, edges: Edges) -> dict[str, int]:
    """Imports a graph without an embedding of its last node; returns the manifest's counts."""
    embeddings = write_embeddings(folder / "embeddings", edges.nodes[:-1])
    argv = ["--format", format_name, "--input", str(source), "--embeddings", str(embeddings)]
    argv += ["--output", str(folder / "out"), "--split", "transductive", "--test-fraction", "0.2"]
    with pytest.raises(InputError, match=r"--strict: .*\d+ × .* \(first: .* row \d+\)"):
        main([*argv, "--strict"])
    assert not (folder / "out").exists()
    assert main(argv) == 0
    counts = json.loads((folder / "out/manifest.json").read_text())["counts"]
    lines = [r.split("\t") for r in (folder / "out/rejects.tsv").read_text().splitlines()]
    assert lines[0] == ["file", "row", "rows", "reason", "text"]
    assert {len(r) for r in lines} == {5}
    assert sum(int(r[2]) for r in lines[1:]) == counts["rejects"]
    assert sum(v for k, v in counts.items() if k.startswith("rejects: ")) == counts["rejects"]
    of_rows = [r for r in lines[1:] if r[2] == "0" and r[1] != "0"]  # row 0: of the whole graph
    assert len(of_rows) == len(edges.notices)
    return counts


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestFormat:
    """What holds for every format."""

    def test_every_row_is_an_edge_or_a_reject(self, case: FormatCase, tmp_path: Path) -> None:
        edges = FORMATS[case.format](case.write(tmp_path))
        assert edges.files == list(case.rows)
        for i, (file, num_rows) in enumerate(case.rows.items()):
            used = edges.row[edges.file == i].tolist()
            rejected = [f.row for f in edges.rejects if f.file == file]
            expected = range(case.first_row, case.first_row + num_rows)
            assert sorted(used + rejected) == list(expected)
        assert edges.num_rows == sum(case.rows.values())
        assert reasons(edges.rejects) == case.rejects
        assert reasons(edges.notices) == case.notices

    def test_a_bad_row_is_named(self, case: FormatCase, tmp_path: Path) -> None:
        edges = FORMATS[case.format](case.write(tmp_path))
        assert case.bad_row in [(f.file, f.row, f.reason) for f in edges.rejects]

    def test_an_import_counts_every_row(self, case: FormatCase, tmp_path: Path) -> None:
        source = case.write(tmp_path / "in")
        counts = import_counts(tmp_path, case.format, source, FORMATS[case.format](source))
        results = ("facts", "mirrored", "duplicates", "rejects")
        assert counts["rows"] == sum(case.rows.values()) == sum(counts[k] for k in results)
        assert counts == counts | case.counts

    def test_a_missing_column_is_named(self, case: FormatCase, tmp_path: Path) -> None:
        source = case.write(tmp_path)
        file, first_line, message = case.cut
        path = source / file if file else source
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.name.endswith("gz") else raw
        write(path, first_line.encode() + b"\n" + text.split(b"\n", 1)[1])
        with pytest.raises(InputError, match=message):
            FORMATS[case.format](source)


def test_primekg_reads_the_real_layout() -> None:
    edges = FORMATS["primekg"](EXCERPT)
    assert edges.num_rows == len(edges.row) == len(EXCERPT.read_text().splitlines()) - 1
    assert (edges.rejects, edges.notices) == ([], [])
    assert edges.nodes[0] == SourceNode("gene/protein", "O14746", "822", "TERT")
    assert triples(edges)[0] == ("gene/protein::O14746", "interacts with",
                                 "cellular_component::GO:0005634")  # fmt: skip
    assert Counter(n.type for n in edges.nodes)["gene/protein"] == 34


def test_primekg_rejects_are_at_their_lines_and_a_notice_names_both_nodes(tmp_path: Path) -> None:
    edges = FORMATS["primekg"](write_kg(tmp_path))
    assert [(f.row, f.reason) for f in sorted(edges.rejects)] == [
        (33, "no x_id"),
        (34, "no x_type"),
        (35, "no relation"),
        (37, "4 fields where there should be 13"),
        (38, "no x_id"),  # an empty line
        (39, "a quote that is not closed"),
    ]
    notice = next(f for f in edges.notices if f.reason == "one index for two ids")
    assert (notice.row, notice.text.count("name 7"), notice.text.count("name 1'")) == (40, 1, 1)


def test_a_primekg_folder_gives_names_and_nodes_without_edges(tmp_path: Path) -> None:
    source = write_primekg_folder(tmp_path)
    edges = FORMATS["primekg"](source)
    assert {n.id for n in edges.nodes} == {*(f"P{i}" for i in range(12)), "lonely"}
    import_counts(tmp_path, "primekg", source, edges)
    names = (tmp_path / "out/nodes/gene_protein.tsv").read_text().splitlines()
    assert names[4] == "P3\tname 3"


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("subfolder", ["", "data", "data/BindData"])
def test_biobridge_nodes_have_ids_and_names(tmp_path: Path, split: bool, subfolder: str) -> None:
    edges = FORMATS["biobridge"](write_biobridge(tmp_path, split) / subfolder)
    assert edges.num_rows == 29
    nodes = {n.node_index: n for n in edges.nodes}
    assert nodes["3"] == SourceNode("gene/protein", "7003", "3", "GENE3")
    assert nodes["50"] == SourceNode("disease", "50", "50", "flu")
    assert nodes["60"] == SourceNode("drug", "60", "60", "")
    assert ("drug::60", "target", "gene/protein::7002") in triples(edges)


@pytest.mark.parametrize("header", [True, False])
def test_tsv_ids_are_split_into_type_and_id(tmp_path: Path, header: bool) -> None:
    edges = FORMATS["tsv"](write_tsv(tmp_path, header))
    assert edges.nodes[0] == SourceNode("Gene", "0", "", "")
    assert ("Gene::1", "GpBP", "Biological Process::GO:0071357") in triples(edges)


def test_tsv_notes_an_unfamiliar_header(tmp_path: Path) -> None:
    rows = ["9021\tGiG\t5", "Gene::1\tGiG\tGene::2\textra"]
    edges = FORMATS["tsv"](write(tmp_path / "mine.tsv", rows))
    assert reasons(edges.notices) == {"taken for a header": 1}
    assert reasons(edges.rejects) == {"4 fields where there should be 3": 1}
    edges = FORMATS["tsv"](write(tmp_path / "wide.tsv", ["Gene::1\tGiG\tGene::2\t0.5"]))
    assert reasons(edges.notices) == {"unknown column": 1}
    assert len(edges.row) == 1
    rows = ["Gene::1\tGiG\t", "Gene::1\tGiG\tGene::2"]
    edges = FORMATS["tsv"](write(tmp_path / "half.tsv", rows))
    assert (edges.num_rows, reasons(edges.rejects)) == (2, {"tail without a type": 1})


def test_tsv_names_come_from_the_table_beside_hetionets_edges(tmp_path: Path) -> None:
    names = ["id\tname\tkind", "Gene::9021\tSOCS3\tGene", "Gene::1\tA1BG\tGene", "untyped\tx\ty"]
    names += ["Gene::1\tagain\tGene", "Gene::2\tA2M"]
    write(tmp_path / "hetionet-v1.0-nodes.tsv", names)
    rows = ["source\tmetaedge\ttarget", "Gene::9021\tGpBP\tBiological Process::GO:0071357"]
    edges = FORMATS["tsv"](write(tmp_path / "hetionet-v1.0-edges.sif.gz", rows))
    assert edges.nodes == [
        SourceNode("Gene", "9021", "", "SOCS3"),
        SourceNode("Gene", "1", "", "A1BG"),
        SourceNode("Biological Process", "GO:0071357", "", ""),
    ]
    assert edges.num_rows == len(edges.row) == 1
    assert reasons(edges.notices) == {
        "a node without a type": 1,
        "a node listed twice": 1,
        "2 fields where there should be 3": 1,
    }


def test_one_openbiolink_file_is_read_as_its_folder_is(tmp_path: Path) -> None:
    folder = write_graph_files(tmp_path)
    whole, single = FORMATS["openbiolink"](folder), FORMATS["openbiolink"](folder / "edges.csv")
    assert triples(whole) == triples(single)
    assert whole.rejects == single.rejects
    assert whole.notices == single.notices
    assert ("GENE::NCBIGENE:1", "GENE_DIS", "DIS::DOID:14330") in triples(whole)


def test_openbiolink_samples_leave_true_negatives_out(tmp_path: Path) -> None:
    edges = FORMATS["openbiolink"](write_samples(tmp_path))
    assert ("GENE::NCBIGENE:7", "GENE_GENE", "GENE::NCBIGENE:9") not in triples(edges)
    assert edges.finding(11, "x").file == "val_sample.csv"


@pytest.mark.parametrize(
    ("format_name", "files", "message"),
    [
        ("primekg", {}, r"no list of nodes in this folder; expected nodes\.csv"),
        ("primekg", {"nodes.csv": "node_index,node_id,node_type,node_name"}, "no edges.csv"),
        ("openbiolink", {"nodes.csv": "a\tb"}, r"none of edges\.csv, train_sample"),
        ("openbiolink", {"edges.csv": "a\tb\tc"}, "no list of nodes"),
        ("biobridge", {}, "name a clone of BioBridge"),
        ("biobridge", {"data_config.json": " {"}, "neither triplet_full.csv"),
        ("biobridge", {"data_config.json": " {", "triplet_full.csv": "a"}, "cannot be read"),
        ("biobridge", {"data_config.json": "{}", "triplet_full.csv": "a"}, "'node_type'"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(
    tmp_path: Path, format_name: str, files: dict[str, str], message: str
) -> None:
    for name, line in files.items():
        write(tmp_path / name, [line])
    with pytest.raises(InputError, match=message):
        FORMATS[format_name](tmp_path)
