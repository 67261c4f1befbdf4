"""Lookup of nodes by id and name, and the suggestions of its error messages."""

from pathlib import Path

import pytest

from bridge_jax import config
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.retrieval.node_names import NodeIndex, read_node_index
from bridge_jax.retrieval.node_search import NodeSearch

DRUGS = NodeIndex(
    "drug",
    ["D1", "D2", "D3", "D4", "D5"],
    ["Aspirin", "Metformin", "aspirin", "Acetyl-aspirin plus", "D5"],
)


def test_case_and_spaces_of_a_name_are_ignored():
    assert DRUGS.row_of_name("METFORMIN") == 1
    assert DRUGS.row_of_name("  acetyl-Aspirin  PLUS ") == 3
    assert DRUGS.row_of_name("aspirin") == 2  # only one of two has exactly this spelling
    assert DRUGS.row_of_id("D2") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ASPIRIN",
            r"2 nodes of type drug are named 'ASPIRIN': 'Aspirin' \(D1\), 'aspirin' \(D3\)",
        ),
        ("metformine", r"no drug is named 'metformine'; did you mean 'Metformin' \(D2\)\?$"),
        ("acetyl", r"no drug is named 'acetyl'; did you mean 'Acetyl-aspirin plus' \(D4\)\?$"),
        ("zzzzzz", r"no drug is named 'zzzzzz'$"),
        ("", r"no drug is named ''"),
    ],
)
def test_an_unknown_or_ambiguous_name_raises_with_suggestions(name, message):
    with pytest.raises(InputError, match=message):
        DRUGS.row_of_name(name)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("D22", r"no drug has the id 'D22'; did you mean 'D2'\?"),
        ("metformin", r"it is the name of 'Metformin' \(D2\); ask for it by name"),
        ("xyzzy", r"ids look like 'D1'"),
    ],
)
def test_an_unknown_id_raises_with_a_suggestion(node, message):
    with pytest.raises(InputError, match=message):
        DRUGS.row_of_id(node)


def test_search_puts_exact_matches_before_prefixes_before_substrings():
    def rows(text, limit):
        return [match.row for match in DRUGS.search(text, limit)]

    assert rows("aspirin", 10) == [0, 2, 3]
    assert rows("d", 2) == [0, 1]
    assert rows("metfromin", 3) == [1]
    assert rows("", 2) == []


@pytest.fixture(scope="module")
def demo() -> list[NodeIndex]:
    root = Path(config.demo_dataset())
    manifest = read_manifest(root)
    return [
        read_node_index(root, manifest, table.name, read_nodes(root, table)[0])
        for table in manifest.node_types
    ]


TP53, ERBB2, EGFR, CFTR = "P04637", "P04626", "P00533", "P13569"
# The first match, and whether it is the node itself or the first of a list.
QUERIES = {
    "p53": (TP53, True), "HER2": (ERBB2, True), "her-2": (ERBB2, True), "TP53": (TP53, True),
    "P04637": (TP53, True), "p04637": (TP53, True), "alzheimer": ("DI-03832", False),
    "Alzheimer's": ("DI-03832", False), "noonan": ("DI-02072", False),
    "GO:0004674": ("GO:0004674", True), "kinase activity": ("GO:0016301", True),
    "atp binding": ("GO:0005524", True), "EGFR": (EGFR, True), "erbb1": (EGFR, True),
    "CFTR": (CFTR, True), "cystic fibrosis": ("DI-01466", True), "brca 1": ("P38398", True),
    "tumour suppresor p53": (None, False), "tumor protein p53": (None, False),
    "sjogren": (None, False), "Sjögren": (None, False),
}  # fmt: skip


def test_people_find_the_node_that_they_mean(demo):
    search = NodeSearch(demo)
    for text, (expected, is_exact) in QUERIES.items():
        matches = search.search(text, 8)
        exact = [match for match in matches if match.is_exact]
        assert [m.id for m in exact] == ([expected] if is_exact else []), text
        if expected:
            assert matches[0].id == expected, text
    assert TP53 in {match.id for match in search.search("cellular tumour antigen p53", 8)}


def test_the_preferred_type_comes_first_among_equals_only(demo):
    search = NodeSearch(demo)
    assert search.search("alzheimer", 3, preferred="gene/protein")[0].node_type == "disease"
    exact = {t: search.search("kinase activity", 1, t)[0].id for t in ("disease", "gene/protein")}
    assert set(exact.values()) == {"GO:0016301"}
    kinase = [search.search("kinase", 1, preferred=i.node_type)[0].node_type for i in demo]
    assert len(set(kinase)) > 1


@pytest.mark.parametrize(
    "spelling", ["Sjögren syndrome", "Sjo\u0308gren Syndrome", "sjogren syndrome"]
)
def test_accents_and_unicode_forms_do_not_matter(spelling):
    index = NodeIndex("disease", ["D1", "D2"], ["Sjögren syndrome", "Sjögren-Larsson syndrome"])
    assert index.row_of_name(spelling) == 0


def test_an_id_is_found_whatever_its_case_unless_another_one_differs_in_it():
    index = NodeIndex("gene", ["P53", "p53x", "P53X"], ["a", "b", "c"])
    assert index.row_of_id("p53") == 0
    assert index.row_of_id("p53x") == 1
    with pytest.raises(InputError, match="no gene has the id 'p53X'"):
        index.row_of_id("p53X")
