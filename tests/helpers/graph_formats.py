"""The same kind of faulty graph in every source format, and what reading it must give."""

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.helpers.tiny_run import EXCERPT

KG_HEADER = EXCERPT.read_text().splitlines()[0]
TRIPLET_HEADER = "x_index,y_index,display_relation,relation,x_type,y_type"


def write(path: Path, lines: Iterable[str] | bytes) -> Path:
    """Writes lines, or bytes, to a file; a name that ends with `gz` is gzipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(raw) if path.name.endswith("gz") else raw)
    return path


def kg_row(x: str, y: str, relation: str = "ppi", **changes: str) -> str:
    """Returns a row of PrimeKG's `kg.csv` between two proteins."""
    fields = {"x_index": f"i{x}", "x_type": "gene/protein", "x_name": f"name {x}"} | changes
    return (
        f"protein_protein,{relation},{fields['x_index']},{x},{fields['x_type']},"
        f"{fields['x_name']},NCBI,i{y},{y},gene/protein,name {y},NCBI"
    )


def write_kg(folder: Path) -> Path:
    sound = [kg_row(str(i), str(i + 1)) for i in range(20)]
    mirrored = [kg_row(str(i + 1), str(i)) for i in range(10)]
    faulty = [
        kg_row("3", "3"),
        kg_row("", "4"),
        kg_row("4", "5", x_type=""),
        kg_row("4", "5", relation=""),
        sound[0],
        "ppi,ppi,1,2",
        "",
        kg_row("6", "8", x_name='"unclosed'),
        kg_row("7", "9", x_index="i1"),
        kg_row("8", "10", x_name="M\u00e9ni\u00e8re"),
        kg_row("9", "11", x_index="i999"),
        kg_row("2", "13", x_name='"quoted, with comma"'),
    ]
    rows = [r + ",1" if r.startswith("protein") else r for r in (*sound, *mirrored, *faulty)]
    text = "\n".join([KG_HEADER + ",extra", *rows])
    return write(folder / "kg.csv.gz", text.encode("latin-1"))


def write_primekg_folder(folder: Path, suffix: str = "") -> Path:
    nodes = ["node_index,node_id,node_type,node_name,node_source"]
    nodes += [f"{i},P{i},gene/protein,name {i},NCBI" for i in range(12)]
    nodes += ["12,D1,,no type,MONDO", "3,P3,gene/protein,again,NCBI", ",P99,drug,,X", "13,,drug,,X"]
    nodes += ["14,lonely,drug,a drug without an edge,DrugBank", "15,too,few"]
    edges = ["relation,display_relation,x_index,y_index,weight"]
    edges += [f"protein_protein,ppi,{i},{i + 1},1" for i in range(10)]
    edges += [f"protein_protein,ppi,{i + 1},{i},1" for i in range(10)]
    edges += ["protein_protein,ppi,4,4,1", "protein_protein,ppi,4,77,1", "x,associated,12,4,1"]
    edges += ["protein_protein,ppi,1,2,1", "protein_protein,ppi,5,6", "protein_protein,,5,7,1"]
    write(folder / f"nodes.csv{suffix}", nodes)
    write(folder / f"edges.csv{suffix}", edges)
    return folder


def write_biobridge(folder: Path, split: bool = False) -> Path:
    config = {
        "node_type": {"gene/protein": 1, "disease": 2, "drug": 6},
        "relation_type": {"ppi": 3, "associated with": 6, "target": 10},
        "emb_dim": {"gene/protein": 2560},
    }
    rows = [f"{i},{i + 1},3,protein_protein,1,1" for i in range(10)]
    rows += [f"{i + 1},{i},3,protein_protein,1,1" for i in range(10)]
    rows += ["2,50,6,disease_protein,1,2", "50,2,6,disease_protein,2,1", "60,2,10,drug_protein,6,1"]
    rows += ["4,4,3,protein_protein,1,1", "4,5,99,protein_protein,1,1"]
    rows += ["4,5,3,protein_protein,77,1", "4,,3,protein_protein,1,1", "4,5,3,protein_protein,1"]
    rows += ["1,2,3,protein_protein,1,1"]
    data, bind = folder / "clone/data", folder / "clone/data/BindData"
    write(bind / "data_config.json", json.dumps(config).encode())
    if split:
        write(bind / "train_test_split/triplet_train.csv", [TRIPLET_HEADER, *rows[:15]])
        write(bind / "train_test_split/triplet_test.csv", [TRIPLET_HEADER, *rows[15:]])
    else:
        write(bind / "triplet_full.csv", [TRIPLET_HEADER, *rows])
    proteins = [f"{i},GENE{i},gene/protein,MKV,{7000 + i}" for i in range(12)]
    header = "node_index,node_name,node_type,sequence,node_id"
    write(data / "Processed/protein.csv", [header, *proteins, "3,OTHER,x,MK,7003"])
    diseases = ["node_index,mondo_id,mondo_name,mondo_definition", "50,123,flu,a fever"]
    write(data / "Processed/disease.csv", diseases)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n"
    write(data / "Processed/drug.csv", pointer)
    return folder / "clone"


def write_tsv(folder: Path, header: bool = True) -> Path:
    """Hetionet's edges have a header, DRKG's have none."""
    rows = [f"Gene::{i}\tGiG\tGene::{i + 1}" for i in range(10)]
    rows += ["Gene::1\tGpBP\tBiological Process::GO:0071357", "Gene::2\tGiG\tGene::1"]
    rows += ["Gene::5\tGiG\tGene::5", "9021\tGiG\tGene::1", "Gene::\tGiG\tGene::1"]
    rows += ["Gene::1\t\tGene::2", "Gene::1\tGiG", "Gene::1\tGiG\t::4", rows[0], '"\tGiG\tGene::1']
    names = ["source\tmetaedge\ttarget"] if header else []
    return write(folder / "edges.sif.gz", [*names, *rows])


OPENBIOLINK_ROWS = [
    *(f"NCBIGENE:{i}\tGENE_GENE\tNCBIGENE:{i + 1}" for i in range(12)),
    "NCBIGENE:1\tGENE_DIS\tDOID:14330",
    "NCBIGENE:2\tGENE_GENE\tNCBIGENE:1",
    "NCBIGENE:4\tGENE_GENE\tNCBIGENE:4",
    "NCBIGENE:4\tGENE_GENE\tNCBIGENE:404",
    "NCBIGENE:4\t\tNCBIGENE:5",
    "NCBIGENE:0\tGENE_GENE\tNCBIGENE:1",
    "NCBIGENE:4\tGENE_X\tNOTYPE:1",
]
OPENBIOLINK_NODES = [
    *(f"NCBIGENE:{i}\tGENE" for i in range(13)),
    *("DOID:14330\tDIS", "NOTYPE:1\t", "x", "NCBIGENE:3\tGENE", "NCBIGENE:3\tDIS"),
]


def write_graph_files(folder: Path) -> Path:
    rows = [f"{r}\t900\tSTRING" for r in OPENBIOLINK_ROWS] + ["NCBIGENE:1\tGENE_GENE\tNCBIGENE:3"]
    write(folder / "graph_files/edges.csv", rows)
    write(folder / "graph_files/TN_edges.csv", rows)
    write(folder / "graph_files/nodes.csv", OPENBIOLINK_NODES)
    return folder / "graph_files"


def write_samples(folder: Path) -> Path:
    rows = [f"{r}\t\t1\tSTRING" for r in OPENBIOLINK_ROWS]
    negative = "NCBIGENE:7\tGENE_GENE\tNCBIGENE:9\t\t0\tSTRING"
    samples = folder / "train_test_data"
    write(samples / "train_sample.csv", [*rows[:10], negative])
    write(samples / "val_sample.csv", rows[10:12])
    write(samples / "test_sample.csv", rows[12:])
    write(samples / "train_val_nodes.csv", OPENBIOLINK_NODES[:8])
    write(samples / "test_nodes.csv", OPENBIOLINK_NODES[6:])
    return samples


@dataclass(frozen=True)
class FormatCase:
    """A graph with faulty rows in one format, and what reading it must give.

    Attributes:
      format: Name of the format.
      write: Writes the files into a folder and returns the input of the reader.
      rows: Number of edge rows by file, in the order of `Edges.files`.
      rejects: Number of rejects by reason.
      notices: Number of notices by reason.
      bad_row: File, line number and reason of one of the rejects.
      counts: Some of the counts of an import.
      cut: Edge file relative to the input, a first line that lacks a column, and the error message.
      first_row: Line number of the first edge row.
    """

    format: str
    write: Callable[[Path], Path]
    rows: dict[str, int]
    rejects: dict[str, int]
    notices: dict[str, int]
    bad_row: tuple[str, int, str]
    counts: dict[str, int]
    cut: tuple[str, str, str]
    first_row: int = 2


def primekg_folder_case(suffix: str) -> FormatCase:
    unknown_tail = f"y_index is in no row of nodes.csv{suffix}"
    return FormatCase(
        "primekg",
        partial(write_primekg_folder, suffix=suffix),
        rows={f"edges.csv{suffix}": 26},
        rejects={
            unknown_tail: 1,
            "a node without a type": 1,
            "4 fields where there should be 5": 1,
            "no relation": 1,
        },
        notices={
            "unknown column": 1,
            "a node without a type": 1,
            "a node listed twice": 1,
            "a node without an id": 2,
            "3 fields where there should be 5": 1,
        },
        bad_row=(f"edges.csv{suffix}", 23, unknown_tail),
        counts={"facts": 10, "mirrored": 10, "duplicates": 1, "rejects: self-loop": 1},
        cut=(
            f"edges.csv{suffix}",
            "relation,display_relation,x_index,index,weight",
            "column 'y_index' is not in",
        ),
    )


def biobridge_case(split: bool) -> FormatCase:
    unknown_relation = "display_relation '99' is not in data_config.json"
    last_file, line = ("triplet_test.csv", 11) if split else ("triplet_full.csv", 26)
    return FormatCase(
        "biobridge",
        partial(write_biobridge, split=split),
        rows={"triplet_train.csv": 15, last_file: 14} if split else {last_file: 29},
        rejects={
            unknown_relation: 1,
            "x_type '77' is not in data_config.json": 1,
            "no y_index": 1,
            "5 fields where there should be 6": 1,
        },
        notices={"a Git LFS pointer, not read": 1, "a node listed twice": 1},
        bad_row=(last_file, line, unknown_relation),
        counts={
            "facts": 11,
            "mirrored": 11,
            "duplicates": 1,
            "rejects: self-loop": 1,
            "rejects: no embeddings of type drug": 1,
        },
        cut=(
            f"data/BindData/{'train_test_split/' if split else ''}{last_file}",
            TRIPLET_HEADER.replace("y_type", "type"),
            "column 'y_type' is not in",
        ),
    )


def tsv_case(header: bool) -> FormatCase:
    first_row = 2 if header else 1
    return FormatCase(
        "tsv",
        partial(write_tsv, header=header),
        rows={"edges.sif.gz": 20},
        rejects={
            "head without a type": 2,
            "head without an id": 1,
            "tail without a type": 1,
            "no relation": 1,
            "2 fields where there should be 3": 1,
        },
        notices={},
        bad_row=("edges.sif.gz", first_row + 14, "head without an id"),
        counts={
            "mirrored": 1,
            "duplicates": 1,
            "rejects: self-loop": 1,
            "rejects: no embeddings of type Biological Process": 1,
        },
        cut=("", "Gene::0\tGiG", "2 tab-separated columns; expected head, relation, tail"),
        first_row=first_row,
    )


CASES = {
    "primekg": FormatCase(
        "primekg",
        write_kg,
        rows={"kg.csv.gz": 42},
        rejects={
            "no x_id": 2,  # one of them is an empty line
            "no x_type": 1,
            "no relation": 1,
            "4 fields where there should be 13": 1,
            "a quote that is not closed": 1,
        },
        notices={
            "unknown column": 1,
            "not UTF-8, read as Latin-1": 1,
            "one id with two indices": 2,
            "one index for two ids": 1,
            "one id with two names": 2,
        },
        bad_row=("kg.csv.gz", 39, "a quote that is not closed"),
        counts={
            "mirrored": 10,
            "duplicates": 1,
            "rejects: self-loop": 1,
            "rejects: no embedding of this gene/protein": 1,
        },
        cut=("", KG_HEADER.replace("y_index", "index"), "column 'y_index' is not in"),
    ),
    "primekg folder": primekg_folder_case(""),
    "primekg folder, gzipped": primekg_folder_case(".gz"),
    "biobridge": biobridge_case(split=False),
    "biobridge, split": biobridge_case(split=True),
    "tsv": tsv_case(header=True),
    "tsv, no header": tsv_case(header=False),
    "openbiolink graph files": FormatCase(
        "openbiolink",
        write_graph_files,
        rows={"edges.csv": 20},
        rejects={
            "tail is in no row of nodes.csv": 1,
            "a node without a type": 1,
            "no relation": 1,
            "3 fields where there should be 5": 1,
        },
        notices={
            "a node without a type": 1,
            "1 fields where there should be 2": 1,
            "a node listed twice": 2,
        },
        bad_row=("edges.csv", 16, "tail is in no row of nodes.csv"),
        counts={"mirrored": 1, "duplicates": 1, "rejects: self-loop": 1},
        cut=("edges.csv", "NCBIGENE:0\tGENE_GENE", "column 'tail' is not in"),
        first_row=1,
    ),
    "openbiolink samples": FormatCase(
        "openbiolink",
        write_samples,
        rows={"train_sample.csv": 11, "val_sample.csv": 2, "test_sample.csv": 7},
        rejects={
            "a true negative": 1,
            "tail is in no row of train_val_nodes.csv or test_nodes.csv": 1,
            "a node without a type": 1,
            "no relation": 1,
        },
        notices={
            "a node without a type": 1,
            "1 fields where there should be 2": 1,
            "a node listed twice": 4,
        },
        bad_row=("train_sample.csv", 11, "a true negative"),
        counts={"mirrored": 1, "duplicates": 1, "rejects: self-loop": 1},
        cut=("train_sample.csv", "NCBIGENE:0\tGENE_GENE", "column 'tail' is not in"),
        first_row=1,
    ),
}
