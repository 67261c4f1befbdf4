"""Every way a graph comes in: true layouts with dirt in them, and no row lost without a word."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.errors import InputError
from tests.helpers.tiny_run import EXCERPT
from tools.formats import FORMATS
from tools.formats.edges import Edges, Node
from tools.import_graph import main

KG_HEADER = EXCERPT.read_text().splitlines()[0]


@pytest.fixture(autouse=True)
def _do_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def write(folder: Path, **files: list[str] | bytes) -> Path:
    """Write files whose names have `_` in place of the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        raw = lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode()
        (folder / ".".join(name.rsplit("_", 1))).write_bytes(raw)
    return folder


def triples(edges: Edges) -> list[tuple[str, str, str]]:
    def name(i: int) -> str:
        return f"{edges.nodes[i].type}::{edges.nodes[i].id}"

    columns = (edges.head.tolist(), edges.relation.tolist(), edges.tail.tolist())
    return [(name(h), edges.relations[r], name(t)) for h, r, t in zip(*columns, strict=True)]


def reasons(findings: list) -> dict[str, int]:
    return dict(Counter(f.reason for f in findings))


def imported(folder: Path, kind: str, source: Path, edges: Edges) -> dict[str, int]:
    """Import with random embeddings of every node but one, and return the manifest's counts."""
    rng = np.random.default_rng(0)
    made: dict[str, list[str]] = {}
    for node in edges.nodes[:-1]:
        made.setdefault(node.type, []).append(node.id)
    (folder / "embeddings").mkdir()
    for name, ids in made.items():
        x = rng.normal(size=(len(ids), 4)).astype(np.float32)
        np.savez(folder / "embeddings" / f"{name.replace('/', '_')}.npz", ids=np.array(ids), x=x)
    argv = ["--format", kind, "--input", str(source), "--embeddings", str(folder / "embeddings")]
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
    split = [v for k, v in counts.items() if k.startswith("rejects: ")]
    assert sum(split) == counts["rejects"]
    assert len([r for r in lines[1:] if r[2] == "0"]) == len(edges.notices)
    return counts


def balance(counts: dict[str, int]) -> int:
    return counts["facts"] + counts["mirrored"] + counts["duplicates"] + counts["rejects"]


def test_primekg_reads_the_real_layout() -> None:
    edges = FORMATS["primekg"](EXCERPT)
    assert edges.rows == len(edges.row) == len(EXCERPT.read_text().splitlines()) - 1
    assert (edges.rejects, edges.notices) == ([], [])
    assert edges.nodes[0] == Node("gene/protein", "O14746", "822", "TERT")
    assert triples(edges)[0] == ("gene/protein::O14746", "interacts with",
                                 "cellular_component::GO:0005634")  # fmt: skip
    assert Counter(n.type for n in edges.nodes)["gene/protein"] == 34


def kg_row(x: str, y: str, relation: str = "ppi", **more: str) -> str:
    field = {"x": x, "y": y, "rel": relation, "xt": "gene/protein", "yt": "gene/protein"} | more
    x_name = more.get("x_name", f"name {x}")
    return (
        f"protein_protein,{field['rel']},{more.get('x_index', 'i' + x)},{x},{field['xt']},{x_name},"
        f"NCBI,i{y},{y},{field['yt']},name {y},NCBI"
    )


def test_primekg_with_dirt(tmp_path: Path) -> None:
    clean = [kg_row(str(i), str(i + 1)) for i in range(20)]
    mirrored = [kg_row(str(i + 1), str(i)) for i in range(10)]
    dirt = [
        kg_row("3", "3"),
        kg_row("", "4"),
        kg_row("4", "5", xt=""),
        kg_row("4", "5", relation=""),
        clean[0],
        "ppi,ppi,1,2",
        "",
        kg_row("6", "8", x_name='"unclosed'),
        kg_row("7", "9", x_index="i1"),
        kg_row("8", "10", x_name="M\u00e9ni\u00e8re"),
        kg_row("9", "11", x_index="i999"),
        kg_row("2", "13", x_name='"quoted, with comma"'),
    ]
    rows = [r + ",1" if r.startswith("protein") else r for r in (*clean, *mirrored, *dirt)]
    raw = "\n".join([KG_HEADER + ",extra", *rows]).encode()
    raw = raw.replace("Ménière".encode(), "Ménière".encode("latin-1"))  # a mixed encoding
    source = write(tmp_path, kg_csv=gzip.compress(raw)) / "kg.csv"
    edges = FORMATS["primekg"](source)
    assert edges.rows == 20 + 10 + 12
    assert reasons(edges.rejects) == {
        "no x_id": 2,
        "no x_type": 1,
        "no relation": 1,
        "4 fields where there should be 13": 1,
        "a quote that is not closed": 1,
    }
    assert {(f.reason, f.row) for f in edges.rejects} >= {
        ("no x_id", 33),
        ("no x_type", 34),
        ("no relation", 35),
        ("4 fields where there should be 13", 37),
        ("no x_id", 38),  # an empty line
        ("a quote that is not closed", 39),
    }
    assert reasons(edges.notices) == {
        "unknown column": 1,
        "not UTF-8, read as Latin-1": 1,
        "one id with two indices": 2,
        "one index for two ids": 1,
        "one id with two names": 2,
    }
    odd = next(f for f in edges.notices if f.reason == "one index for two ids")
    assert (odd.row, odd.text.count("name 7"), odd.text.count("name 1'")) == (40, 1, 1)
    counts = imported(tmp_path, "primekg", source, edges)
    assert counts["rows"] == 42 == balance(counts)
    assert (counts["mirrored"], counts["duplicates"]) == (10, 1)
    assert counts["rejects: self-loop"] == 1
    assert counts["rejects: no embedding of this gene/protein"] >= 1


@pytest.mark.parametrize("zipped", [False, True])
def test_primekg_folder_with_dirt(tmp_path: Path, zipped: bool) -> None:
    nodes = ["node_index,node_id,node_type,node_name,node_source"]
    nodes += [f"{i},P{i},gene/protein,name {i},NCBI" for i in range(12)]
    nodes += ["12,D1,,no type,MONDO", "3,P3,gene/protein,again,NCBI", ",P99,drug,,X", "13,,drug,,X"]
    nodes += ["14,lonely,drug,a drug without an edge,DrugBank", "15,too,few"]
    edges = ["relation,display_relation,x_index,y_index,weight"]
    edges += [f"protein_protein,ppi,{i},{i + 1},1" for i in range(10)]
    edges += [f"protein_protein,ppi,{i + 1},{i},1" for i in range(10)]
    edges += ["protein_protein,ppi,4,4,1", "protein_protein,ppi,4,77,1", "x,associated,12,4,1"]
    edges += ["protein_protein,ppi,1,2,1", "protein_protein,ppi,5,6", "protein_protein,,5,7,1"]
    end = "_csv_gz" if zipped else "_csv"
    write(tmp_path, nodes_csv=nodes, edges_csv=edges)
    if zipped:
        for name in ("nodes", "edges"):
            raw = (tmp_path / f"{name}.csv").read_bytes()
            (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(raw))
            (tmp_path / f"{name}.csv").unlink()
    listed = "nodes" + end.replace("_", ".")
    got = FORMATS["primekg"](tmp_path)
    assert got.rows == 26
    assert reasons(got.rejects) == {
        f"y_index is in no row of {listed}": 1,
        "a node without a type": 1,
        "4 fields where there should be 5": 1,
        "no relation": 1,
    }
    assert reasons(got.notices) == {
        "unknown column": 1,
        "a node without a type": 1,
        "a node listed twice": 1,
        "a node without an id": 2,
        "3 fields where there should be 5": 1,
    }
    assert {n.id for n in got.nodes} == {*(f"P{i}" for i in range(12)), "lonely"}
    counts = imported(tmp_path, "primekg", tmp_path, got)
    assert counts["rows"] == 26 == balance(counts)
    assert (counts["facts"], counts["mirrored"], counts["duplicates"]) == (10, 10, 1)
    names = (tmp_path / "out/nodes/gene_protein.tsv").read_text().splitlines()
    assert names[4] == "P3\tname 3"


def biobridge(root: Path, rows: list[str], split: bool) -> Path:
    config = {
        "node_type": {"gene/protein": 1, "disease": 2, "drug": 6},
        "relation_type": {"ppi": 3, "associated with": 6, "target": 10},
        "emb_dim": {"gene/protein": 2560},
    }
    bind = write(root / "data/BindData", data_config_json=json.dumps(config).encode())
    header = "x_index,y_index,display_relation,relation,x_type,y_type"
    if split:
        train, test = [header, *rows[:15]], [header, *rows[15:]]
        write(bind / "train_test_split", triplet_train_csv=train, triplet_test_csv=test)
    else:
        write(bind, triplet_full_csv=[header, *rows])
    write(
        root / "data/Processed",
        protein_csv=["node_index,node_name,node_type,sequence,node_id"]
        + [f"{i},GENE{i},gene/protein,MKV,{7000 + i}" for i in range(12)] + ["3,OTHER,x,MK,7003"],
        disease_csv=["node_index,mondo_id,mondo_name,mondo_definition", "50,123,flu,a fever"],
        drug_csv=b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n",
    )  # fmt: skip
    return root


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("inside", ["", "data", "data/BindData"])
def test_biobridge_with_dirt(tmp_path: Path, split: bool, inside: str) -> None:
    rows = [f"{i},{i + 1},3,protein_protein,1,1" for i in range(10)]
    rows += [f"{i + 1},{i},3,protein_protein,1,1" for i in range(10)]
    rows += ["2,50,6,disease_protein,1,2", "50,2,6,disease_protein,2,1", "60,2,10,drug_protein,6,1"]
    rows += [
        "4,4,3,protein_protein,1,1",
        "4,5,99,protein_protein,1,1",
        "4,5,3,protein_protein,77,1",
    ]
    rows += ["4,,3,protein_protein,1,1", "4,5,3,protein_protein,1", "1,2,3,protein_protein,1,1"]
    source = biobridge(tmp_path / "clone", rows, split) / inside
    edges = FORMATS["biobridge"](source)
    assert edges.rows == len(rows) == 29
    assert reasons(edges.rejects) == {
        "display_relation '99' is not in data_config.json": 1,
        "x_type '77' is not in data_config.json": 1,
        "no y_index": 1,
        "5 fields where there should be 6": 1,
    }
    assert reasons(edges.notices) == {"a Git LFS pointer, not read": 1, "a node listed twice": 1}
    nodes = {n.index: n for n in edges.nodes}
    assert nodes["3"] == Node("gene/protein", "7003", "3", "GENE3")
    assert nodes["50"] == Node("disease", "50", "50", "flu")
    assert nodes["60"] == Node("drug", "60", "60", "")
    assert ("drug::60", "target", "gene/protein::7002") in triples(edges)
    expected = {"triplet_train.csv", "triplet_test.csv"} if split else {"triplet_full.csv"}
    assert set(edges.files) == expected
    counts = imported(tmp_path, "biobridge", source, edges)
    assert counts["rows"] == 29 == balance(counts)
    assert (counts["facts"], counts["mirrored"], counts["duplicates"]) == (11, 11, 1)
    assert counts["rejects: no embeddings of type drug"] == 1
    assert counts["rejects: self-loop"] == 1


def tsv_rows() -> list[str]:
    rows = [f"Gene::{i}\tGiG\tGene::{i + 1}" for i in range(10)]
    rows += ["Gene::1\tGpBP\tBiological Process::GO:0071357", "Gene::2\tGiG\tGene::1"]
    rows += ["Gene::5\tGiG\tGene::5", "9021\tGiG\tGene::1", "Gene::\tGiG\tGene::1"]
    return [
        *rows,
        "Gene::1\t\tGene::2",
        "Gene::1\tGiG",
        "Gene::1\tGiG\t::4",
        rows[0],
        '"\tGiG\tGene::1',
    ]


@pytest.mark.parametrize("header", ["source\tmetaedge\ttarget", None])
def test_tsv_with_dirt(tmp_path: Path, header: str | None) -> None:
    """Hetionet's edges have a header, DRKG's have none."""
    rows = tsv_rows()
    raw = "\n".join([header, *rows] if header else rows).encode()
    source = write(tmp_path, edges_sif_gz=gzip.compress(raw)) / "edges_sif.gz"
    edges = FORMATS["tsv"](source)
    assert edges.rows == len(rows) == 20
    assert edges.notices == []
    assert reasons(edges.rejects) == {
        "head without a type": 2,
        "head without an id": 1,
        "tail without a type": 1,
        "no relation": 1,
        "2 fields where there should be 3": 1,
    }
    first = 2 if header else 1
    assert next(f.row for f in edges.rejects if "an id" in f.reason) == first + 14
    assert edges.nodes[0] == Node("Gene", "0", "", "")
    assert ("Gene::1", "GpBP", "Biological Process::GO:0071357") in triples(edges)
    counts = imported(tmp_path, "tsv", source, edges)
    assert counts["rows"] == 20 == balance(counts)
    assert (counts["mirrored"], counts["duplicates"]) == (1, 1)
    assert counts["rejects: self-loop"] == 1
    assert counts["rejects: no embeddings of type Biological Process"] == 1


def test_tsv_notes_what_it_takes_for_a_header(tmp_path: Path) -> None:
    source = write(tmp_path, mine_tsv=["9021\tGiG\t5", "Gene::1\tGiG\tGene::2\textra"]) / "mine.tsv"
    edges = FORMATS["tsv"](source)
    assert reasons(edges.notices) == {"taken for a header": 1}
    assert reasons(edges.rejects) == {"4 fields where there should be 3": 1}
    wide = write(tmp_path, wide_tsv=["Gene::1\tGiG\tGene::2\t0.5"]) / "wide.tsv"
    edges = FORMATS["tsv"](wide)
    assert reasons(edges.notices) == {"unknown column": 1}
    assert len(edges.row) == 1
    half = FORMATS["tsv"](
        write(tmp_path, half_tsv=["Gene::1\tGiG\t", "Gene::1\tGiG\tGene::2"]) / "half.tsv"
    )
    assert (half.rows, reasons(half.rejects)) == (2, {"tail without a type": 1})
    with pytest.raises(
        InputError, match=r"narrow.tsv: 2 tab-separated columns; expected head, relation"
    ):
        FORMATS["tsv"](write(tmp_path, narrow_tsv=["a\tb"]) / "narrow.tsv")


def test_tsv_names_stand_beside_hetionets_edges(tmp_path: Path) -> None:
    edges = ["source\tmetaedge\ttarget", "Gene::9021\tGpBP\tBiological Process::GO:0071357"]
    names = ["id\tname\tkind", "Gene::9021\tSOCS3\tGene", "Gene::1\tA1BG\tGene", "untyped\tx\ty"]
    names += ["Gene::1\tagain\tGene", "Gene::2\tA2M"]
    write(tmp_path, **{"hetionet-v1.0-nodes_tsv": names})
    path = tmp_path / "hetionet-v1.0-edges.sif.gz"
    path.write_bytes(gzip.compress("\n".join(edges).encode()))
    read = FORMATS["tsv"](path)
    assert read.nodes == [
        Node("Gene", "9021", "", "SOCS3"),
        Node("Gene", "1", "", "A1BG"),
        Node("Biological Process", "GO:0071357", "", ""),
    ]
    assert read.rows == len(read.row) == 1
    assert reasons(read.notices) == {
        "a node without a type": 1,
        "a node listed twice": 1,
        "2 fields where there should be 3": 1,
    }


def openbiolink_rows() -> list[str]:
    rows = [f"NCBIGENE:{i}\tGENE_GENE\tNCBIGENE:{i + 1}" for i in range(12)]
    rows += ["NCBIGENE:1\tGENE_DIS\tDOID:14330", "NCBIGENE:2\tGENE_GENE\tNCBIGENE:1"]
    rows += ["NCBIGENE:4\tGENE_GENE\tNCBIGENE:4", "NCBIGENE:4\tGENE_GENE\tNCBIGENE:404"]
    return [*rows, "NCBIGENE:4\t\tNCBIGENE:5", rows[0], "NCBIGENE:4\tGENE_X\tNOTYPE:1"]


NODES = [f"NCBIGENE:{i}\tGENE" for i in range(13)] + ["DOID:14330\tDIS", "NOTYPE:1\t", "x"]
NODES += ["NCBIGENE:3\tGENE", "NCBIGENE:3\tDIS"]


def test_openbiolink_graph_files_with_dirt(tmp_path: Path) -> None:
    rows = [f"{r}\t900\tSTRING" for r in openbiolink_rows()] + ["NCBIGENE:1\tGENE_GENE\tNCBIGENE:3"]
    folder = write(tmp_path / "graph_files", edges_csv=rows, nodes_csv=NODES, TN_edges_csv=rows)
    for source in (folder, folder / "edges.csv"):
        edges = FORMATS["openbiolink"](source)
        assert edges.rows == 20
        assert reasons(edges.rejects) == {
            "tail is in no row of nodes.csv": 1,
            "a node without a type": 1,
            "no relation": 1,
            "3 fields where there should be 5": 1,
        }
        assert reasons(edges.notices) == {
            "a node without a type": 1,
            "1 fields where there should be 2": 1,
            "a node listed twice": 2,
        }
        assert ("GENE::NCBIGENE:1", "GENE_DIS", "DIS::DOID:14330") in triples(edges)
    counts = imported(tmp_path, "openbiolink", folder, edges)
    assert counts["rows"] == 20 == balance(counts)
    assert (counts["mirrored"], counts["duplicates"]) == (1, 1)
    assert counts["rejects: self-loop"] == 1


def test_openbiolink_samples_leave_true_negatives_out(tmp_path: Path) -> None:
    rows = [f"{r}\t\t1\tSTRING" for r in openbiolink_rows()]
    negative = ["NCBIGENE:7\tGENE_GENE\tNCBIGENE:9\t\t0\tSTRING"]
    folder = write(
        tmp_path / "train_test_data",
        train_sample_csv=rows[:10] + negative,
        val_sample_csv=rows[10:12],
        test_sample_csv=rows[12:],
        train_val_nodes_csv=NODES[:8],
        test_nodes_csv=NODES[6:],
    )
    edges = FORMATS["openbiolink"](folder)
    assert edges.rows == 20
    assert reasons(edges.rejects)["a true negative"] == 1
    assert ("GENE::NCBIGENE:7", "GENE_GENE", "GENE::NCBIGENE:9") not in triples(edges)
    assert edges.files == ["train_sample.csv", "val_sample.csv", "test_sample.csv"]
    assert edges.finding(11, "x").file == "val_sample.csv"
    counts = imported(tmp_path, "openbiolink", folder, edges)
    assert counts["rows"] == 20 == balance(counts)


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        ("primekg", {}, r"no list of nodes in this folder; expected nodes\.csv"),
        ("primekg", {"nodes_csv": ["node_index,node_id,node_type,node_name"]}, "no edges.csv"),
        ("openbiolink", {"nodes_csv": ["a\tb"]}, r"none of edges\.csv, train_sample"),
        ("openbiolink", {"edges_csv": ["a\tb\tc"]}, "no list of nodes"),
        ("biobridge", {}, "name a clone of BioBridge"),
        ("biobridge", {"data_config_json": [" {"]}, "neither triplet_full.csv"),
        ("biobridge", {"data_config_json": [" {"], "triplet_full_csv": ["a"]}, "cannot be read"),
        ("biobridge", {"data_config_json": ["{}"], "triplet_full_csv": ["a"]}, "'node_type'"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(
    tmp_path: Path, kind: str, files: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        FORMATS[kind](write(tmp_path, **files))
