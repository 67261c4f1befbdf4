"""Synonyms from node tables and feature tables to a dataset, a subset and the node index."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

import bridge_jax
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.manifest import read_manifest, write_manifest
from bridge_jax.data.synonyms import read_synonyms, write_synonyms
from tests.helpers.excerpt import import_excerpt, write_embeddings
from tests.helpers.tiny_run import DEMO
from tools import import_graph, subset, verify_shards
from tools.formats import FORMATS

pytestmark = pytest.mark.usefixtures("no_fsync")

PROTEIN = "gene/protein"


def stored(root: Path, node_type: str = PROTEIN) -> dict[str, tuple[str, ...]]:
    return read_synonyms(root, read_manifest(root), node_type)


def features(folder: Path, text: str, name: str = "protein.csv") -> list[str]:
    (folder / "features").mkdir()
    (folder / "features" / name).write_text(text, encoding="utf-8")
    return ["--features", str(folder / "features")]


@pytest.mark.parametrize("separator", [",", "\t", "|"])
def test_a_feature_table_gives_synonyms(tmp_path: Path, separator: str) -> None:
    rows = [
        ["node_id", "node_name", "Synonyms"],
        ["P04637", "TP53", '"p53|LFS1||P53|TP53"'],
        ["P04637", "TP53", "Me\u0301nie\u0300re"],
        ["P01112", "", "NA"],
        ["Q5JWF2", "GNAS", ""],
    ]
    options = features(tmp_path, "".join(separator.join(row) + "\n" for row in rows))
    root = import_excerpt(tmp_path, *options)
    assert stored(root) == {"P04637": ("p53", "LFS1", "Ménière")}
    assert stored(root, "disease") == {}
    entry = read_manifest(root).synonyms[PROTEIN]
    assert (entry.file, entry.count) == ("nodes/gene_protein.synonyms.tsv.gz", 1)
    text = gzip.decompress((root / entry.file).read_bytes()).decode()
    assert text == "id\tsynonyms (|)\nP04637\tp53|LFS1|Ménière\n"
    assert verify_shards.main([str(root)]) == 0


def test_a_dataset_without_synonyms_has_no_trace_of_them(excerpt_dataset: Path) -> None:
    assert "synonyms" not in json.loads((excerpt_dataset / "manifest.json").read_text())
    assert not list(excerpt_dataset.glob("nodes/*.gz"))


def test_synonyms_of_an_older_dataset_go_with_it(tmp_path: Path) -> None:
    options = features(tmp_path, "node_id,synonyms\nP04637,p53\n")
    root = import_excerpt(tmp_path, *options)
    assert stored(root)
    assert import_excerpt(tmp_path, "--overwrite") == root
    assert stored(root) == {}
    assert not list(root.glob("nodes/*.gz"))


@pytest.mark.parametrize(
    ("name", "edges", "nodes"),
    [
        ("kgx", "subject\tpredicate\tobject\n{0}\tbiolink:eats\t{1}\n",
         "id\tcategory\tname\tsynonym\n{0}\tbiolink:Taxon\tdog\tCanis lupus|domestic dog\n"),
        ("tsv", "Taxon::{0}\teats\tTaxon::{1}\n",
         "id\tname\tkind\tsynonyms\nTaxon::{0}\tdog\tTaxon\tCanis lupus|Dog|domestic dog\n"),
    ],
)  # fmt: skip
def test_a_table_of_nodes_beside_the_edges_gives_synonyms(
    tmp_path: Path, name: str, edges: str, nodes: str
) -> None:
    ids = ["9615.0", *map(str, range(40))]
    header, pair = ("", edges) if name == "tsv" else edges.split("\n", 1)
    lines = [pair.format(a, ids[(i + k) % 41]) for i, a in enumerate(ids) for k in (1, 2, 3)]
    (tmp_path / "x_edges.tsv").write_text(f"{header}\n" * bool(header) + "".join(lines))
    columns, dog = nodes.split("\n", 1)
    others = [dog.format(i).replace("dog", "").replace("Canis lupus|", "") for i in ids[1:]]
    (tmp_path / "x_nodes.tsv").write_text("".join([f"{columns}\n", dog.format(ids[0]), *others]))
    graph = FORMATS[name](tmp_path / "x_edges.tsv")
    embeddings = write_embeddings(tmp_path / "embeddings", graph.nodes)
    root = tmp_path / "out"
    arguments = ["--format", name, "--input", str(tmp_path / "x_edges.tsv"), "--output", str(root)]
    import_graph.main([*arguments, "--split", "transductive", "--embeddings", str(embeddings)])
    assert stored(root, "Taxon")["9615"] == ("Canis lupus", "domestic dog")


def test_a_subset_and_a_node_index_have_the_synonyms_of_their_nodes(
    tiny: Path, trained: Path
) -> None:
    demo = stored(DEMO)
    ids = read_nodes(tiny, read_manifest(tiny).table(PROTEIN))[0]
    assert stored(tiny) == {i: demo[i] for i in ids if i in demo}
    index = bridge_jax.load(trained).retriever.node_index(PROTEIN)
    assert len(index.synonyms) == len(index.ids) == len(ids)
    assert "P53" in index.synonyms[index.row_of_id("P04637")]


def test_a_faulty_table_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tiny"
    subset.main([str(DEMO), "--output", str(root), "--keep", f"{PROTEIN}=100",
                 "--keep", "molecular_function=50"])  # fmt: skip
    manifest = read_manifest(root)
    entry = write_synonyms(root, PROTEIN, stored(root) | {"nobody": ("x",)})
    assert entry is not None
    assert verify_shards.main([str(root)]) == 1
    file = "nodes/gene_protein.synonyms.tsv.gz"
    assert f"{file}: {root}/{file}: cannot be read: its sha256" in capsys.readouterr().out
    write_manifest(root, replace(manifest, synonyms={**manifest.synonyms, PROTEIN: entry}))
    assert verify_shards.main([str(root)]) == 1
    assert f"{file}: id 'nobody' is no {PROTEIN}" in capsys.readouterr().out
