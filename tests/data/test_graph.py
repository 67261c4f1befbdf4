"""Typed graph: collapse, pairs, queries and known positives, against brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import write_columns
from bridge_jax.data.graph import (
    Graph,
    Known,
    Pairs,
    TripleType,
    known_positives,
    load_graph,
    subsample_facts,
)
from bridge_jax.data.manifest import Manifest, NodeTable, SplitFile
from bridge_jax.data.splits import collapse
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError
from tests.helpers.graphs import facts_of

TYPES, COUNTS, RELATIONS = ("disease", "drug", "gene/protein"), (4, 5, 6), ("ppi", "target")
TYPES_OF = np.repeat([0, 1, 2], COUNTS)
DRUG_TARGET = TripleType("drug", "target", "gene/protein")
TARGET_DRUG = TripleType("gene/protein", "target", "drug")
PPI = TripleType("gene/protein", "ppi", "gene/protein")


@pytest.fixture
def graph() -> Graph:
    """A graph whose drugs are 4..8 and proteins 9..14; test holds out drug 8 and protein 14."""
    return Graph(
        TYPES,
        COUNTS,
        RELATIONS,
        {
            "train": facts_of((4, 1, 9), (4, 1, 10), (5, 1, 9), (9, 0, 10)),
            "validation": facts_of((5, 1, 10)),
            "test": facts_of((8, 1, 14), (4, 1, 14), (8, 1, 9), (14, 0, 9)),
        },
        {"validation": np.zeros(0, np.int32), "test": np.array([8, 14], np.int32)},
    )


def as_sets(pairs: dict[TripleType, Pairs]) -> dict[TripleType, set[tuple[int, int]]]:
    return {t: set(zip(p.heads.tolist(), p.tails.tolist(), strict=True)) for t, p in pairs.items()}


@pytest.mark.parametrize("seed", range(20))
def test_collapse_counts_every_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, [15, 2, 15], (300, 3))
    rows = rows[rows[:, 0] != rows[:, 2]]
    rows = np.concatenate([rows, rows[:40], rows[20:80, ::-1]])
    rng.shuffle(rows)
    head, relation, tail = rows.T
    out = collapse(head, relation, tail, TYPES_OF)

    stored = {(h, r, t) for h, r, t in rows.tolist()}
    undirected = {(min(h, t), r, max(h, t)) for h, r, t in stored}
    mirrored = {(h, r, t) for h, r, t in undirected if {(h, r, t), (t, r, h)} <= stored}
    columns = (out.facts.head, out.facts.relation, out.facts.tail)
    facts = list(zip(*(c.tolist() for c in columns), strict=True))
    assert len(out.facts) == len(undirected)
    first_rows = dict.fromkeys((min(h, t), r, max(h, t)) for h, r, t in rows.tolist())
    assert [(min(h, t), r, max(h, t)) for h, r, t in facts] == list(first_rows)
    assert out.mirrored == len(mirrored)
    assert len(rows) == len(out.facts) + out.mirrored + out.duplicates
    flagged = {
        (min(h, t), r, max(h, t))
        for (h, r, t), flag in zip(facts, out.facts.mirrored.tolist(), strict=True)
        if flag
    }
    assert flagged == mirrored
    triple_types = {(TYPES_OF[h], r, TYPES_OF[t]) for h, r, t in facts}
    assert not any((t, r, h) in triple_types for h, r, t in triple_types if h != t)


def test_collapse_gives_a_triple_type_the_direction_of_its_first_row() -> None:
    out = collapse(
        np.array([9, 4, 9, 4]), np.array([1, 1, 1, 1]), np.array([4, 10, 4, 9]), TYPES_OF
    )
    assert (out.facts.head.tolist(), out.facts.tail.tolist()) == ([9, 10], [4, 4])
    assert out.facts.mirrored.tolist() == [1, 0]
    assert (out.mirrored, out.duplicates) == (1, 1)


def test_collapse_of_no_rows() -> None:
    empty = np.zeros(0, np.int64)
    out = collapse(empty, empty, empty, TYPES_OF)
    assert (len(out.facts), out.mirrored, out.duplicates) == (0, 0, 0)


def test_pairs_hold_both_directions_as_local_ids(graph: Graph) -> None:
    assert graph.triple_types == (DRUG_TARGET, PPI, TARGET_DRUG)
    pairs = as_sets(graph.pairs(["train"]))
    assert pairs[DRUG_TARGET] == {(0, 0), (0, 1), (1, 0)}
    assert pairs[TARGET_DRUG] == {(0, 0), (1, 0), (0, 1)}
    assert pairs[PPI] == {(0, 1), (1, 0)}
    all_pairs = as_sets(graph.pairs())
    assert sum(len(p) for p in all_pairs.values()) == 2 * 9


def test_pairs_of_a_directed_graph_have_one_direction(graph: Graph) -> None:
    pairs = as_sets(replace(graph, directed=True).pairs(["train"]))
    assert pairs == {DRUG_TARGET: {(0, 0), (0, 1), (1, 0)}, PPI: {(0, 1)}}


def test_the_head_of_a_query_is_held_out(graph: Graph) -> None:
    queries = as_sets(graph.queries("test"))
    assert queries[DRUG_TARGET] == {(4, 0), (4, 5)}  # from drug 8
    assert queries[TARGET_DRUG] == {(5, 0), (5, 4)}  # from protein 14
    assert queries[PPI] == {(5, 0)}
    assert graph.queries("test")[DRUG_TARGET].tails.tolist() == [0, 5]  # sorted


def test_without_held_out_nodes_queries_have_both_directions(graph: Graph) -> None:
    queries = as_sets(replace(graph, heldout={}).queries("validation"))
    assert queries[DRUG_TARGET] == {(1, 1)}
    assert queries[TARGET_DRUG] == {(1, 1)}


def test_train_nodes_are_never_held_out(graph: Graph) -> None:
    assert graph.train_nodes("drug").tolist() == [0, 1, 2, 3]
    assert graph.train_nodes("gene/protein").tolist() == [0, 1, 2, 3, 4]
    assert graph.train_nodes("disease").tolist() == [0, 1, 2, 3]
    assert graph.heldout_mask("drug", ["validation"]).sum() == 0


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fill", [0.0, 0.02, 0.5, 1.0])
def test_known_positives_agree_with_a_dense_matrix(seed: int, fill: float) -> None:
    rng = np.random.default_rng(seed)
    heads, tails = 7, 11
    dense = rng.random((heads, tails)) < fill
    h, t = (a.astype(np.int32) for a in np.nonzero(dense))
    repeated = rng.permutation(np.concatenate([np.arange(len(h)), np.arange(len(h) // 2)]))
    known = Known.build(Pairs(h[repeated], t[repeated]), heads, tails)
    assert len(known.tails) == dense.sum()

    batch = rng.integers(0, heads, 30).astype(np.int32)
    rows, known_tails = known.of(batch)
    results = {(r, t) for r, t in zip(rows.tolist(), known_tails.tolist(), strict=True)}
    assert results == {
        (row, t) for row, head in enumerate(batch) for t in np.flatnonzero(dense[head]).tolist()
    }
    assert len(rows) == len(results)
    candidates = rng.integers(0, tails, 30).astype(np.int32)
    assert np.array_equal(known.contains(batch, candidates), dense[batch, candidates])
    wider = Known.build(Pairs(h, t), heads, 10 * tails)
    assert not wider.contains(batch, candidates + np.int32(tails)).any()


def test_known_positives_cover_the_named_splits(graph: Graph) -> None:
    train, all_splits = known_positives(graph, ["train"]), known_positives(graph, graph.facts)
    drug, protein = np.array([4], np.int32), np.array([0], np.int32)
    assert not train[DRUG_TARGET].contains(drug, protein)
    assert all_splits[DRUG_TARGET].contains(drug, protein)
    assert all_splits[TARGET_DRUG].contains(protein, drug)


def test_unknown_names_are_an_input_error_with_a_suggestion(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"relation 'targets' is not .*mean 'target'"):
        graph.relation_id("targets")
    with pytest.raises(InputError, match=r"node type 'gene' is not .*gene/protein"):
        graph.type_id("gene")
    with pytest.raises(InputError, match="triple type 'drug → ppi → gene/protein'"):
        graph.triple_type("drug", "ppi", "gene/protein")
    assert graph.triple_type(*DRUG_TARGET) == DRUG_TARGET


def write_graph(root: Path, columns: dict[str, list[int]], heldout: list[int]) -> Manifest:
    tables = tuple(NodeTable(n, 1, "float32", c, 1, ()) for n, c in zip(TYPES, COUNTS, strict=True))
    arrays = {k: np.array(v) for k, v in columns.items()}
    triples = {"train": write_columns(root, "triples", "train", triple_layout(), arrays)}
    heldout_files = {
        "test": write_columns(
            root, "heldout", "test", heldout_layout(), {"node": np.array(heldout)}
        )
    }
    return Manifest("toy", tables, RELATIONS, (), triples, heldout_files, {}, {})


def test_a_graph_survives_a_round_trip(tmp_path: Path, graph: Graph) -> None:
    train = graph.facts["train"]
    manifest = write_graph(tmp_path, {k: v.tolist() for k, v in vars(train).items()}, [8, 14])
    loaded = load_graph(tmp_path, manifest)
    assert (loaded.node_types, loaded.counts, loaded.relations) == (TYPES, COUNTS, RELATIONS)
    assert all(np.array_equal(v, vars(loaded.facts["train"])[k]) for k, v in vars(train).items())
    assert loaded.heldout["test"].tolist() == [8, 14]
    assert isinstance(manifest.triples["train"], SplitFile)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("head", 15, "has head id 15; the manifest has 15"),
        ("tail", 99, "has tail id 99; the manifest has 15"),
        ("relation", 2, "has relation id 2; the manifest has 2"),
    ],
)
def test_facts_with_ids_out_of_range_are_an_input_error(
    tmp_path: Path, column: str, value: int, message: str
) -> None:
    columns = {"head": [4, 5], "relation": [1, 1], "tail": [9, 9], "mirrored": [1, 1]}
    columns[column][1] = value
    with pytest.raises(InputError, match=message):
        load_graph(tmp_path, write_graph(tmp_path, columns, [8]))


def test_held_out_nodes_out_of_range_are_an_input_error(tmp_path: Path) -> None:
    columns = {"head": [4], "relation": [1], "tail": [9], "mirrored": [1]}
    with pytest.raises(InputError, match="held-out node 15; the manifest has 15 nodes"):
        load_graph(tmp_path, write_graph(tmp_path, columns, [8, 15]))


def test_subsample_facts_is_nested_and_keeps_known_positives_and_queries(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    rows = [(int(d), 1, int(p)) for d, p in rng.integers((4, 9), (9, 15), (300, 2))]
    graph = replace(graph, facts={**graph.facts, "train": facts_of(*rows)})
    small, large = (subsample_facts(graph, f, seed=3) for f in (0.2, 0.6))

    def train(subsample: Graph) -> list[tuple[int, int]]:
        facts = subsample.facts["train"]
        return list(zip(facts.head.tolist(), facts.tail.tolist(), strict=True))

    assert 30 < len(train(small)) < 90 < 140 < len(train(large)) < 220
    remaining = train(large)
    for fact in train(small):
        remaining.remove(fact)
    assert train(subsample_facts(graph, 0.2, seed=3)) == train(small)
    assert train(subsample_facts(graph, 0.2, seed=4)) != train(small)
    known_of_small = known_positives(small, small.facts)
    for triple_type, known in known_positives(graph, graph.facts).items():
        np.testing.assert_array_equal(known_of_small[triple_type].indptr, known.indptr)
        np.testing.assert_array_equal(known_of_small[triple_type].tails, known.tails)
    for triple_type, queries in graph.queries("test").items():
        np.testing.assert_array_equal(small.queries("test")[triple_type], queries)
    assert subsample_facts(graph, 1.0, seed=3) is graph
    for bad in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(InputError, match="must lie within"):
            subsample_facts(graph, bad, seed=0)
