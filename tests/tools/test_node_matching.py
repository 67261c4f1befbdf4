"""Matching of ids and file names to the nodes of a graph."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from bridge_jax.errors import InputError
from tools.formats.edges import Edges, SourceNode
from tools.ingest.embeddings import Embeddings
from tools.ingest.id_matching import MatchOptions, compile_id_pattern
from tools.ingest.node_lookup import NodeLookup, canonical_id, unify_spellings
from tools.ingest.node_matching import MatchedNodes, match_nodes

DECOMPOSED, COMPOSED = "Me\u0301nie\u0300re", "M\u00e9ni\u00e8re"


def graph(*nodes: tuple[str, str], index: bool = False) -> Edges:
    """Returns edges from the first node to each other one; the index of node i is 100 + i."""
    source = [SourceNode(t, i, str(100 + k) if index else "", "") for k, (t, i) in enumerate(nodes)]
    n = len(source) - 1
    tail = np.arange(1, n + 1)
    zeros = np.zeros(n, np.int64)
    return Edges(source, ["r"], zeros, zeros, tail, row=tail + 1, files=["g.tsv"])


def table(ids: Sequence[str], file: str = "protein.npz", **fields: str) -> Embeddings:
    x = np.arange(1, len(ids) + 1, dtype=np.float32)[:, None]
    return Embeddings(list(ids), x, file=file, **fields)


def proteins(*ids: str) -> Edges:
    return graph(*(("protein", i) for i in ids))


def vectors(nodes: MatchedNodes, node_type: str = "protein") -> dict[str, float]:
    """Returns the first component of the vector of each id."""
    t = nodes.tables[node_type]
    return dict(zip(t.ids, t.x[:, 0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("graph_id", "file_id"),
    [
        ("9606", "9606.0"), ("9606.0", "9606"), ("9606", " 9606 "), (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED), ("P1", "protein::P1"), ("NA", "NA"),
    ],
)  # fmt: skip
def test_spellings_of_an_id_are_one_id(graph_id: str, file_id: str) -> None:
    edges = unify_spellings(proteins("x", graph_id))
    nodes = match_nodes(edges, {"protein": table(["x", file_id])}, None)
    assert vectors(nodes) == {"x": 1, canonical_id(graph_id): 2}
    assert nodes.global_ids.tolist() == [0, 1]
    assert not nodes.unmatched


@pytest.mark.parametrize("id_", ["9606.5", "1.10", "GO:1.0", "1.0e5", ".0", "P1.0"])
def test_other_ids_are_left_as_they_are(id_: str) -> None:
    assert canonical_id(id_) == id_


def test_nodes_that_differ_in_spelling_become_one() -> None:
    edges = proteins("a", COMPOSED, DECOMPOSED, "7", "7.0")
    unified = unify_spellings(edges)
    assert [n.id for n in unified.nodes] == ["a", COMPOSED, "7"]
    assert unified.tail.tolist() == [1, 1, 2, 2]
    assert [f.reason for f in unified.notices] == ["two spellings of one id"] * 2
    assert unify_spellings(unified) is unified
    with pytest.raises(InputError, match=r"protein\.npz: '7' and '7\.0' are both protein '7'"):
        match_nodes(unified, {"protein": table(["a", "7", "7.0"])}, None)


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        (r"\|(.+)\|", ["sp|P04637|P53_HUMAN", "tr|Q1|X"]),
        (r"^(.+)\.\d+$", ["P04637.2", "Q1.13"]),
        (r"^(?:sp\|)?(\w+)", ["P04637", "sp|Q1"]),
    ],
)
def test_a_pattern_cuts_out_the_id(pattern: str, ids: list[str]) -> None:
    edges = proteins("P04637", "Q1")
    options = MatchOptions(id_pattern=compile_id_pattern(pattern))
    nodes = match_nodes(edges, {"protein": table(ids)}, None, options)
    assert vectors(nodes) == {"P04637": 1, "Q1": 2}
    if ids[0] != "P04637":
        with pytest.raises(InputError, match=re.escape(ids[0])):
            match_nodes(edges, {"protein": table(ids)}, None)


def test_two_versions_of_an_id_are_refused_by_name() -> None:
    options = MatchOptions(id_pattern=compile_id_pattern(r"(.+)\.\d$"))
    with pytest.raises(InputError, match=r"'A\.1' and 'A\.2' are both protein 'A'; keep one"):
        match_nodes(proteins("A", "B"), {"protein": table(["A.1", "A.2", "B.1"])}, None, options)


@pytest.mark.parametrize("pattern", ["(", "a", "(a)(b)"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(InputError, match=r"--id-pattern '"):
        compile_id_pattern(pattern)


@pytest.mark.parametrize(("num_matched", "is_refused"), [(1, True), (4, True), (5, False)])
def test_below_half_is_refused_unless_allowed(num_matched: int, is_refused: bool) -> None:
    ids = [f"P{i}" if i < num_matched else f"X{i}" for i in range(10)]
    edges, files = proteins(*(f"P{i}" for i in range(10))), {"protein": table(ids)}
    if is_refused:
        message = rf"protein\.npz: {num_matched} of 10 ids are protein nodes .*not matched, e\.g\."
        with pytest.raises(InputError, match=message):
            match_nodes(edges, files, None)
    nodes = match_nodes(edges, files, None, MatchOptions(allow_unmatched=True))
    assert nodes.unmatched == {"nodes only in embeddings: protein.npz": 10 - num_matched}
    assert f"{num_matched} of 10" in str(nodes.matches[0])


@pytest.mark.parametrize(
    ("ids", "is_refused"),
    [
        (range(100, 120), True),  # all are indices, some are ids
        ([*range(110, 120), *range(100, 105)], True),  # the rest are indices
        ([*range(110, 120), *range(900, 905)], False),  # the rest are unknown
        (range(110, 130), False),
    ],
)
def test_node_indices_are_told_from_ids(ids: Sequence[int], is_refused: bool) -> None:
    edges = graph(*(("protein", str(110 + i)) for i in range(20)), index=True)
    files = {"protein": table([str(i) for i in ids])}
    if is_refused:
        with pytest.raises(InputError, match=r"node indices .*--node-index-ids protein"):
            match_nodes(edges, files, None)
    else:
        match_nodes(edges, files, None)
    if ids[0] == 100:
        nodes = match_nodes(edges, files, None, MatchOptions(node_index_files=["protein"]))
        assert vectors(nodes) == {str(110 + i): i + 1 for i in range(20)}


def test_an_unknown_node_index_never_becomes_an_id() -> None:
    edges = graph(("protein", "5"), ("protein", "6"), ("protein", "7"), index=True)
    nodes = match_nodes(
        edges, {"protein": table(["100", "101", "7"], id_column="node_index")}, None
    )
    assert vectors(nodes) == {"5": 1, "6": 2}  # "7" is an index that the graph does not have
    assert nodes.unmatched == {"vectors without a node: protein.npz": 1}


@pytest.mark.parametrize(
    ("types", "stem", "expected"),
    [
        (("protein", "gene/protein"), "protein", "protein"),
        (("protein", "gene/protein"), "gene_protein", "gene/protein"),
        (("gene/protein",), "protein", "gene/protein"),
        (("side effect", "side_effect"), "side_effect", "side_effect"),
        (("biological", "biological_process"), "biological", "biological"),
        (("biological_process",), "biological", "biological_process"),
        (("Gene",), "gene", "Gene"),
        (("Gene", "gene"), "gene", "gene"),
        ((DECOMPOSED,), COMPOSED, None),
        (("protein",), "pathway", None),
    ],
)
def test_an_exact_name_comes_first(types: Sequence[str], stem: str, expected: str | None) -> None:
    lookup = NodeLookup(SourceNode(t, "1", "", "") for t in types)
    assert lookup.type_of_file(stem) == expected


def test_types_that_cannot_be_told_apart_are_refused() -> None:
    lookup = NodeLookup(SourceNode(t, "1", "", "") for t in ("a/protein", "b/protein"))
    with pytest.raises(InputError, match="name the file a_protein or b_protein"):
        lookup.type_of_file("protein")
    edges = graph(("side effect", "1"), ("side_effect", "2"))
    files = {"side_effect": table(["2"]), "side effect": table(["1"])}
    with pytest.raises(InputError, match="become one file name, side_effect; rename one"):
        match_nodes(edges, files, None)
