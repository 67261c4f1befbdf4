"""Layouts of graph files as they are published: TxGNN, DRKG, KGX, N-Triples, tables with tabs."""

import tarfile
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
from tests.helpers.graph_formats import write, write_primekg_folder, write_samples
from tests.tools.test_formats import reasons, triples
from tools.formats import FORMATS, read_graph

GRAPH_ROWS = [(f"P{i}", f"D{i % 5}") for i in range(20)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize(
    "header",
    [
        "relation,x_id,x_type,y_id,y_type",
        "relation,display_relation,x_id,x_type,x_name,x_source,y_id,y_type,y_name,y_source",
        "x_type,x_id,relation,y_type,y_id,x_idx,y_idx",
    ],
)
def test_txgnn_tables_without_an_index_are_read(
    tmp_path: Path, header: str, delimiter: str
) -> None:
    values = {"relation": "r", "display_relation": "r", "x_type": "gene/protein",
              "y_type": "disease"}  # fmt: skip
    columns = header.split(",")
    lines = [
        delimiter.join((values | {"x_id": x, "y_id": y}).get(c, "") for c in columns)
        for x, y in GRAPH_ROWS
    ]
    source = write(tmp_path / "kg.csv", [delimiter.join(columns), *lines])
    edges = FORMATS["txgnn"](source)
    expected = [(f"gene/protein::{x}", "r", f"disease::{y}") for x, y in GRAPH_ROWS]
    assert triples(edges) == expected
    named = "display_relation" in columns
    assert reasons(edges.notices) == (
        {} if named else {"no column display_relation, relation is read": 1}
    )
    assert all(n.node_index == "" for n in edges.nodes)


@pytest.mark.parametrize("suffix", [".tab", ".tsv", ".tab.gz"])
def test_a_primekg_folder_may_have_tabs(tmp_path: Path, suffix: str) -> None:
    whole = FORMATS["primekg"](write_primekg_folder(tmp_path / "csv"))
    write_primekg_folder(tmp_path / "tab")
    nodes = (tmp_path / "tab/nodes.csv").read_text().splitlines()
    quoted = ["\t".join(f'"{f}"' for f in line.split(",")) for line in nodes]
    write(tmp_path / f"tab/nodes{suffix}", quoted)
    (tmp_path / "tab/nodes.csv").unlink()
    for source in (tmp_path / "tab", tmp_path / "tab/edges.csv"):
        edges = FORMATS["primekg"](source)
        assert triples(edges) == triples(whole)
        assert edges.nodes == whole.nodes


@pytest.mark.parametrize(
    "header",
    [("head", "relation", "tail"), ("Subject", "Predicate", "Object"),
     ("source", "metaedge", "target")],
)  # fmt: skip
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (3, 0, 1, 2), (0, 1, 2, 4), (2, 3, 0, 1)])
def test_named_columns_are_found_in_any_order(
    tmp_path: Path, header: tuple[str, ...], order: tuple[int, ...]
) -> None:
    rows = [(f"Gene::{x}", "r", f"Disease::{y}", str(i), "") for i, (x, y) in enumerate(GRAPH_ROWS)]
    lines = [(*header, "", ""), *rows]
    source = write(tmp_path / "g.tsv", ["\t".join(line[i] for i in order) for line in lines])
    edges = FORMATS["tsv"](source)
    assert triples(edges) == [row[:3] for row in rows]
    assert (edges.rejects, edges.notices) == ([], [])


@pytest.mark.parametrize(
    ("order", "columns"),
    [((0, 2, 1), "1 and 2"), ((3, 0, 1, 2), "2 and 4"), ((1, 0, 2), "2 and 3")],
)
@pytest.mark.parametrize("header", [False, True])
def test_ids_in_other_columns_are_refused(
    tmp_path: Path, order: tuple[int, ...], columns: str, header: bool
) -> None:
    rows = [(f"Gene::{x}", "r", f"Disease::{y}", str(i)) for i, (x, y) in enumerate(GRAPH_ROWS)]
    lines = [("a", "b", "c", "d")] * header + rows
    source = write(tmp_path / "g.tsv", ["\t".join(line[i] for i in order) for line in lines])
    with pytest.raises(InputError, match=f"type::id are in columns {columns}, expected 1 and 3"):
        FORMATS["tsv"](source)


def test_drkg_relations_with_colons_are_relations(tmp_path: Path) -> None:
    rows = [f"Gene::{i}\tbioarx::HumGenHumGen:Gene:Gene\tGene::{i + 1}" for i in range(9)]
    edges = FORMATS["drkg"](write(tmp_path / "drkg.tsv", rows))
    assert edges.relations == ["bioarx::HumGenHumGen:Gene:Gene"]
    assert edges.num_rows == len(edges.row) == 9


def test_an_archive_is_named_with_its_members(tmp_path: Path) -> None:
    member = write(tmp_path / "drkg.tsv", ["Gene::1\tr\tGene::2"])
    with tarfile.open(tmp_path / "drkg.tar.gz", "w:gz") as archive:
        archive.add(member, "drkg/drkg.tsv")
    with pytest.raises(InputError, match=r"tar archive of drkg/drkg\.tsv: unpack it with tar -xf"):
        FORMATS["drkg"](tmp_path / "drkg.tar.gz")


KGX_NODES = [
    "id\tcategory\tname\tsynonym",
    'HGNC:1\tbiolink:Gene|biolink:NamedThing\tA "1\ta|b',
    "HGNC:2\tbiolink:NamedThing|biolink:Gene\t\t",
    "MONDO:1\tbiolink:Disease\td\t",
    "X:1\t\tuntyped\t",
]
KGX_EDGES = [
    "id\tsubject\tpredicate\tobject\tcategory",
    "e1\tHGNC:1\tbiolink:causes\tMONDO:1\tbiolink:Association",
    "e2\tHGNC:2\tbiolink:causes\tMONDO:1\tbiolink:Association",
    "e3\tHGNC:9\tbiolink:causes\tMONDO:1\tbiolink:Association",
    "e4\tX:1\tbiolink:causes\tMONDO:1\tbiolink:Association",
    "e5\tHGNC:1\t\tMONDO:1\tbiolink:Association",
]
KGX_TRIPLES = [("Gene::HGNC:1", "causes", "Disease::MONDO:1"),
               ("Gene::HGNC:2", "causes", "Disease::MONDO:1")]  # fmt: skip


def test_kgx_takes_types_from_the_table_of_nodes(tmp_path: Path) -> None:
    write(tmp_path / "m_nodes.tsv.gz", KGX_NODES)
    source = write(tmp_path / "m_edges.tsv", KGX_EDGES)
    for path in (source, tmp_path):
        edges = FORMATS["kgx"](path)
        assert triples(edges) == KGX_TRIPLES
        assert [n.name for n in edges.nodes] == ['A "1', "", "d"]
        assert edges.synonyms == {("Gene", "HGNC:1"): "a|b"}
        assert [(f.row, f.reason) for f in sorted(edges.rejects)] == [
            (4, "subject is in no row of m_nodes.tsv.gz"),
            (5, "a node without a type"),
            (6, "no relation"),
        ]
    write(tmp_path / "n_edges.tsv", KGX_EDGES)
    with pytest.raises(InputError, match=r"found m_edges\.tsv, n_edges\.tsv; name the file"):
        FORMATS["kgx"](tmp_path)


def test_kgx_takes_types_from_the_edges_of_monarch(tmp_path: Path) -> None:
    header = "subject_category\tsubject\tsubject_label\tpredicate\tobject\tobject_category"
    rows = ["biolink:Gene\tHGNC:1\tA1\tbiolink:causes\tMONDO:1\tbiolink:Disease",
            "biolink:Gene\tHGNC:2\tB2\tbiolink:causes\tMONDO:1\tbiolink:Disease",
            "\tHGNC:3\tC3\tbiolink:causes\tMONDO:1\tbiolink:Disease",
            "biolink:Gene\t\tC3\tbiolink:causes\tMONDO:1\tbiolink:Disease"]  # fmt: skip
    edges = FORMATS["kgx"](write(tmp_path / "monarch.tsv", [header, *rows]))
    assert triples(edges) == KGX_TRIPLES
    assert [n.name for n in edges.nodes] == ["A1", "B2", ""]
    assert [(f.row, f.reason) for f in edges.rejects] == [
        (4, "no subject_category"), (5, "no subject")
    ]  # fmt: skip


N_TRIPLES = [
    "<http://purl.obolibrary.org/obo/GO_1> <http://x/p#has> <https://ids.org/ncbigene:96> .",
    '<http://purl.obolibrary.org/obo/GO_1> <http://www.w3.org/2000/01/rdf-schema#label> '
    '"a \\"n\\u00e9\\""@en .',
    "# a comment", "",
    "<http://a/gene/TP53> <http://x/p> <http://bio2rdf.org/drugbank:DB1>.",
    '<http://a/gene/TP53> <http://x/p> "a literal" .',
    "_:b <http://x/p> <http://a/gene/TP53> .",
    "<http://a/gene/TP53> <http://x/p>",
    "<urn> <http://x/p> <http://a/gene/TP53> .",
]  # fmt: skip


def test_n_triples_give_types_and_ids(tmp_path: Path) -> None:
    source = write(tmp_path / "g.nt.gz", N_TRIPLES)
    edges = FORMATS["ntriples"](source)
    assert triples(edges) == [
        ("GO::GO:1", "has", "ncbigene::96"), ("gene::TP53", "p", "drugbank::DB1")
    ]  # fmt: skip
    assert edges.nodes[0].name == 'a "né"'
    assert edges.row.tolist() == [1, 5]
    assert [(f.row, f.reason.split(";")[0]) for f in sorted(edges.rejects)] == [
        (6, "a literal, not a node"), (7, "a blank node"), (8, "no N-Triple"),
        (9, "an IRI without a type"),
    ]  # fmt: skip


def test_an_iri_pattern_is_the_rule(tmp_path: Path) -> None:
    source = write(tmp_path / "g.nt", ["<http://a/1-Gene> <http://x/p> <http://a/2-Gene> ."])
    edges = read_graph("ntriples", source, iri_pattern=r"/(?P<id>\d+)-(?P<type>\w+)$")
    assert triples(edges) == [("Gene::1", "p", "Gene::2")]
    for pattern in ("(", r"(\d+)"):
        with pytest.raises(InputError, match="--iri-pattern"):
            read_graph("ntriples", source, iri_pattern=pattern)
    with pytest.raises(InputError, match="only --format ntriples has IRIs"):
        read_graph("tsv", source, iri_pattern=r"(?P<id>\d)(?P<type>\d)")


def test_an_unpacked_openbiolink_archive_is_read(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "HQ_DIR")
    assert triples(FORMATS["openbiolink"](tmp_path / "HQ_DIR")) == triples(
        FORMATS["openbiolink"](samples)
    )
