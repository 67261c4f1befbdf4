"""Tiny files of every source that docs/data.md names, written as their publishers write them."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tools.formats import read_graph

PROTEINS = [f"P{i:05}" for i in range(20)]
DRUGS = [f"DB{i:05}" for i in range(6)]
PAIRS = [(protein, DRUGS[i % len(DRUGS)]) for i, protein in enumerate(PROTEINS)]
SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "C1CCCCC1", "CO"]
SEQUENCES = ["MKTAYIAKQR" + "ACDEFGHIKL"[: i % 10] for i in range(len(PROTEINS))]
X = np.random.default_rng(0).normal(size=(len(PROTEINS), 4)).astype(np.float32)


def write(path: Path, text: str) -> None:
    """Writes a text file, gzipped if its name ends with `.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_rows(path: Path, rows: list[tuple[str, ...]], delimiter: str = "\t") -> None:
    write(path, "".join(delimiter.join(row) + "\n" for row in rows))


def write_graph(path: Path) -> None:
    """Writes the graph that `docs/data.md` calls `path`, which is relative or absolute."""
    GRAPHS[path.name](path)


def _kg(path: Path) -> None:
    columns = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,"
    columns += "y_index,y_id,y_type,y_name,y_source"
    rows = [
        f"dp,target,{i},{p},gene/protein,{p},NCBI,{d[2:]},{d},drug,{d},DrugBank"
        for i, (p, d) in enumerate(PAIRS)
    ]
    table = [line.split(",") for line in (columns, *rows)]
    if path.parent.name == "txgnn":
        keep = [i for i, c in enumerate(table[0]) if c not in ("x_index", "y_index")]
        table = [[row[i] for i in keep] for row in table]
    write_rows(path, [tuple(row) for row in table], ",")


def _primekg_folder(path: Path) -> None:
    header = ("node_index", "node_id", "node_type", "node_name", "node_source")
    rows = [(str(i), n, "gene/protein", n, "NCBI") for i, n in enumerate(PROTEINS)]
    rows += [(str(i), n, "drug", n, "DrugBank") for i, n in enumerate(DRUGS, len(PROTEINS))]
    quoted = [(index, *(f'"{f}"' for f in row)) for index, *row in rows]
    write_rows(path / "nodes.tab", [tuple(f'"{f}"' for f in header), *quoted])
    edges = [
        ("dp", "target", str(i), str(len(PROTEINS) + DRUGS.index(d)))
        for i, (_, d) in enumerate(PAIRS)
    ]
    header = ("relation", "display_relation", "x_index", "y_index")
    write_rows(path / "edges.csv", [header, *edges], ",")


def _biobridge(path: Path) -> None:
    bind = path / "data/BindData"
    codes = {"node_type": {"gene/protein": 1, "drug": 2}, "relation_type": {"target": 3}}
    write(bind / "data_config.json", json.dumps(codes))
    header = "x_index,y_index,display_relation,relation,x_type,y_type"
    rows = [f"{i},{100 + DRUGS.index(d)},3,dp,1,2" for i, (_, d) in enumerate(PAIRS)]
    write(bind / "triplet_full.csv", "\n".join([header, *rows]) + "\n")
    rows = [f"{100 + i},{d},{d},drug" for i, d in enumerate(DRUGS)]
    header = "node_index,node_id,node_name,node_type"
    write(path / "data/Processed/drug.csv", "\n".join([header, *rows]) + "\n")


def _typed(header: tuple[str, ...] = ()) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        rows = [(f"Gene::{p}", "target", f"Compound::{d}") for p, d in PAIRS]
        if path.name == "mine.tsv":
            rows.append((f"Gene::{PROTEINS[0]}", "inhibits", f"Gene::{PROTEINS[1]}"))
        write_rows(path, [header, *rows] if header else rows)
        if path.name.startswith("hetionet"):
            names = [(f"Gene::{p}", p, "Gene") for p in PROTEINS]
            names += [(f"Compound::{d}", d, "Compound") for d in DRUGS]
            write_rows(path.parent / "hetionet-v1.0-nodes.tsv", [("id", "name", "kind"), *names])

    return make


def _openbiolink(path: Path) -> None:
    rows = [(p, "DRUG_GENE", d, "900", "STITCH") for p, d in PAIRS]
    write_rows(path / "graph_files/edges.csv", rows)
    nodes = [(p, "GENE") for p in PROTEINS] + [(d, "DRUG") for d in DRUGS]
    write_rows(path / "graph_files/nodes.csv", nodes)


def _kgx(path: Path) -> None:
    header = ("id", "subject", "predicate", "object", "category")
    rows = [(p, p, "biolink:affects", d, "biolink:Association") for p, d in PAIRS]
    write_rows(path, [header, *rows])
    nodes = [(p, "biolink:Gene|biolink:NamedThing", p) for p in PROTEINS]
    nodes += [(d, "biolink:Drug", d) for d in DRUGS]
    write_rows(path.with_name("monarch-kg_nodes.tsv"), [("id", "category", "name"), *nodes])


def _ntriples(path: Path) -> None:
    base = "https://example.org"
    lines = [f"<{base}/gene/{p}> <{base}/target> <{base}/drug/{d}> .\n" for p, d in PAIRS]
    write(path, "".join(lines))


GRAPHS: Mapping[str, Callable[[Path], None]] = {
    "kg.csv": _kg,
    "dataverse_files": _primekg_folder,
    "BioBridge": _biobridge,
    "hetionet-v1.0-edges.sif.gz": _typed(("source", "metaedge", "target")),
    "drkg.tsv": _typed(),
    "mine.tsv": _typed(("head", "relation", "tail")),
    "HQ_DIR": _openbiolink,
    "monarch-kg_edges.tsv": _kgx,
    "graph.nt.gz": _ntriples,
}


def write_vectors(folder: Path, graph: Path, format_name: str) -> None:
    """Writes an npz file of vectors for each node type of a graph."""
    ids: dict[str, list[str]] = {}
    for node in read_graph(format_name, graph).nodes:
        ids.setdefault(node.type, []).append(node.id)
    folder.mkdir(exist_ok=True)
    for node_type, names in ids.items():
        np.savez(folder / f"{node_type.replace('/', '_')}.npz", ids=names, x=X[: len(names)])


def write_embeddings(path: Path, options: str, ids: list[str] = PROTEINS) -> None:
    """Writes vectors as the file of docs/data.md that is read with some options."""
    x = X[: len(ids)]
    vectors = dict(zip(ids, x, strict=True))
    numbers = [(n, *map(str, v)) for n, v in vectors.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".h5" if "--embedding-key" in options:
            _write_hdf5(path, {"names": ids, "x": x, "pca": x[:, :2]})
        case ".h5" if "--pool" in options:
            _write_hdf5(path, {n: np.stack([v, v]) for n, v in vectors.items()})
        case ".h5":
            _write_hdf5(path, vectors)
        case "":
            _write_esm(path, vectors)
        case ".pt":
            torch = pytest.importorskip("torch")
            torch.save({"ids": ids, "x": torch.tensor(x)}, path)
        case ".safetensors":
            pytest.importorskip("safetensors.numpy").save_file(vectors, path)
        case ".h5ad":
            anndata, pd = pytest.importorskip("anndata"), pytest.importorskip("pandas")
            cells = anndata.AnnData(x[:, :1], obs=pd.DataFrame(index=ids))
            cells.obsm["X_pca"] = x
            cells.write_h5ad(path)
        case ".npz":
            np.savez(path, ids=np.array(ids), x=x)
        case ".npy":
            np.save(path, x)
            path.with_suffix(".ids.txt").write_text("\n".join(ids) + "\n")
        case ".parquet":
            pd = pytest.importorskip("pandas")
            pd.DataFrame(x, index=ids).rename(columns=str).to_parquet(path)
        case ".csv":
            write_rows(path, [("id", *"abcd"), *numbers], ",")
        case ".vec":
            write_rows(path, [tuple(map(str, x.shape)), *numbers], " ")
        case suffix:
            raise AssertionError(f"docs/data.md names a file with {suffix}, which is not tested")


def _write_hdf5(path: Path, arrays: Mapping[str, object]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value


def _write_esm(path: Path, vectors: Mapping[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    path.mkdir()
    for name, x in vectors.items():
        layers = {32: torch.zeros(len(x)), 33: torch.tensor(x)}
        torch.save({"label": name, "mean_representations": layers}, path / f"{name}.pt")


def write_entities(path: Path) -> None:
    """Writes a file of proteins, drugs or diseases that `docs/data.md` names."""
    match path.name.removesuffix(".gz"):
        case "proteins.fasta":
            entries = zip(PROTEINS, SEQUENCES, strict=True)
            write(path, "".join(f">sp|{n}|{n}_HUMAN Name OS=Homo\n{s}\n" for n, s in entries))
        case "uniprot.tsv":
            rows = [(n, n, s) for n, s in zip(PROTEINS, SEQUENCES, strict=True)]
            write_rows(path, [("Entry", "Protein names", "Sequence"), *rows])
        case "drugs.smi":
            write(path, "".join(f"{s} {n}\n" for s, n in zip(SMILES, DRUGS, strict=True)))
        case "structures.sdf":
            chem = pytest.importorskip("rdkit.Chem")
            records = []
            for smiles, name in zip(SMILES, DRUGS, strict=True):
                block = chem.MolToMolBlock(chem.MolFromSmiles(smiles))
                records.append(f"{block}> <DATABASE_ID>\n{name}\n\n$$$$\n")
            write(path, "".join(records))
        case "disease.csv":
            write_rows(path, [("node_id", "node_name", "description"), ("D1", "a", "b")], ",")
        case "terms.tsv":
            write_rows(path, [("curie", "label", "definition"), ("GO:1", "a", "b")])
        case "disease.parquet":
            pd = pytest.importorskip("pandas")
            columns = {"node_name": ["a"], "description": ["b"]}
            pd.DataFrame(columns, index=pd.Index(["D1"], name="node_id")).to_parquet(path)
        case name:
            raise AssertionError(f"docs/data.md names {name}, which is not tested")
