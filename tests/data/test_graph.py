"""The typed graph: collapse, pairs, held-out queries and known positives, against brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import Manifest, NodeTable, TripleFile, write_blocks
from bridge_jax.data.graph import (
    Facts,
    Graph,
    Known,
    Pairs,
    TripleType,
    known_positives,
    load_graph,
    subsample_facts,
)
from bridge_jax.data.splits import collapse
from bridge_jax.data.tfrecord import heldout_layout, triple_layout
from bridge_jax.errors import InputError

TYPES, COUNTS, RELATIONS = ("disease", "drug", "gene/protein"), (4, 5, 6), ("ppi", "target")
TYPES_OF = np.repeat([0, 1, 2], COUNTS)
DRUG_TARGET = TripleType("drug", "target", "gene/protein")
TARGET_DRUG = TripleType("gene/protein", "target", "drug")
PPI = TripleType("gene/protein", "ppi", "gene/protein")


def facts(*rows: tuple[int, int, int]) -> Facts:
    head, relation, tail = np.array(rows, np.int32).reshape(-1, 3).T
    return Facts(head, relation, tail, np.ones_like(head))


@pytest.fixture
def graph() -> Graph:
    """Drugs are 4..8 and proteins 9..14; drug 8 and protein 14 are held out for testing."""
    return Graph(
        TYPES,
        COUNTS,
        RELATIONS,
        {
            "train": facts((4, 1, 9), (4, 1, 10), (5, 1, 9), (9, 0, 10)),
            "validation": facts((5, 1, 10)),
            "test": facts((8, 1, 14), (4, 1, 14), (8, 1, 9), (14, 0, 9)),
        },
        {"validation": np.zeros(0, np.int32), "test": np.array([8, 14], np.int32)},
    )


def as_sets(pairs: dict[TripleType, Pairs]) -> dict[TripleType, set[tuple[int, int]]]:
    return {k: set(zip(p.heads.tolist(), p.tails.tolist(), strict=True)) for k, p in pairs.items()}


@pytest.mark.parametrize("seed", range(20))
def test_collapse_accounts_for_every_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, [15, 2, 15], (300, 3))
    rows = rows[rows[:, 0] != rows[:, 2]]
    rows = np.concatenate([rows, rows[:40], rows[20:80, ::-1]])
    rng.shuffle(rows)
    head, relation, tail = rows.T
    out = collapse(head, relation, tail, TYPES_OF)

    stored = {(h, r, t) for h, r, t in rows.tolist()}
    undirected = {(min(h, t), r, max(h, t)) for h, r, t in stored}
    both = {(h, r, t) for h, r, t in undirected if {(h, r, t), (t, r, h)} <= stored}
    columns = (out.facts.head, out.facts.relation, out.facts.tail)
    found = list(zip(*(c.tolist() for c in columns), strict=True))
    assert len(out.facts) == len(undirected)
    first_rows = dict.fromkeys((min(h, t), r, max(h, t)) for h, r, t in rows.tolist())
    assert [(min(h, t), r, max(h, t)) for h, r, t in found] == list(first_rows)
    assert out.mirrored == len(both)
    assert len(rows) == len(out.facts) + out.mirrored + out.duplicates
    flagged = {
        (min(h, t), r, max(h, t))
        for (h, r, t), m in zip(found, out.facts.mirrored.tolist(), strict=True)
        if m
    }
    assert flagged == both
    kinds = {(TYPES_OF[h], r, TYPES_OF[t]) for h, r, t in found}
    assert not any((t, r, h) in kinds for h, r, t in kinds if h != t)


def test_collapse_turns_a_kind_the_way_its_first_row_points() -> None:
    out = collapse(
        np.array([9, 4, 9, 4]), np.array([1, 1, 1, 1]), np.array([4, 10, 4, 9]), TYPES_OF
    )
    assert (out.facts.head.tolist(), out.facts.tail.tolist()) == ([9, 10], [4, 4])
    assert out.facts.mirrored.tolist() == [1, 0]
    assert (out.mirrored, out.duplicates) == (1, 1)


def test_collapse_of_nothing() -> None:
    none = np.zeros(0, np.int64)
    out = collapse(none, none, none, TYPES_OF)
    assert (len(out.facts), out.mirrored, out.duplicates) == (0, 0, 0)


def test_pairs_hold_both_directions_as_local_ids(graph: Graph) -> None:
    assert graph.triple_types == (DRUG_TARGET, PPI, TARGET_DRUG)
    pairs = as_sets(graph.pairs(["train"]))
    assert pairs[DRUG_TARGET] == {(0, 0), (0, 1), (1, 0)}
    assert pairs[TARGET_DRUG] == {(0, 0), (1, 0), (0, 1)}
    assert pairs[PPI] == {(0, 1), (1, 0)}
    every = as_sets(graph.pairs())
    assert sum(len(p) for p in every.values()) == 2 * 9


def test_a_directed_graph_keeps_its_rows(graph: Graph) -> None:
    pairs = as_sets(replace(graph, directed=True).pairs(["train"]))
    assert pairs == {DRUG_TARGET: {(0, 0), (0, 1), (1, 0)}, PPI: {(0, 1)}}


def test_queries_start_at_the_held_out_end(graph: Graph) -> None:
    queries = as_sets(graph.queries("test"))
    assert queries[DRUG_TARGET] == {(4, 0), (4, 5)}  # from drug 8
    assert queries[TARGET_DRUG] == {(5, 0), (5, 4)}  # from protein 14
    assert queries[PPI] == {(5, 0)}
    assert graph.queries("test")[DRUG_TARGET].tails.tolist() == [0, 5]  # sorted


def test_without_held_out_nodes_every_fact_is_asked_both_ways(graph: Graph) -> None:
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
def test_known_positives_against_a_set(seed: int, fill: float) -> None:
    rng = np.random.default_rng(seed)
    heads, tails = 7, 11
    dense = rng.random((heads, tails)) < fill
    h, t = (a.astype(np.int32) for a in np.nonzero(dense))
    again = rng.permutation(np.concatenate([np.arange(len(h)), np.arange(len(h) // 2)]))
    known = Known.build(Pairs(h[again], t[again]), heads, tails)
    assert len(known.tails) == dense.sum()

    asked = rng.integers(0, heads, 30).astype(np.int32)
    rows, found = known.of(asked)
    got = {(r, t) for r, t in zip(rows.tolist(), found.tolist(), strict=True)}
    assert got == {(i, t) for i, h in enumerate(asked) for t in np.flatnonzero(dense[h]).tolist()}
    assert len(rows) == len(got)
    candidates = rng.integers(0, tails, 30).astype(np.int32)
    assert np.array_equal(known.contains(asked, candidates), dense[asked, candidates])
    beyond = Known.build(Pairs(h, t), heads, 10 * tails)
    assert not beyond.contains(asked, candidates + np.int32(tails)).any()


def test_known_positives_cover_the_named_splits(graph: Graph) -> None:
    train, every = known_positives(graph, ["train"]), known_positives(graph, graph.facts)
    drug, protein = np.array([4], np.int32), np.array([0], np.int32)
    assert not train[DRUG_TARGET].contains(drug, protein)
    assert every[DRUG_TARGET].contains(drug, protein)
    assert every[TARGET_DRUG].contains(protein, drug)


def test_unknown_names_say_what_there_is(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"relation 'targets' is not .*mean 'target'"):
        graph.relation_id("targets")
    with pytest.raises(InputError, match=r"node type 'gene' is not .*gene/protein"):
        graph.type_id("gene")
    with pytest.raises(InputError, match="triple type 'drug → ppi → gene/protein'"):
        graph.triple_type("drug", "ppi", "gene/protein")
    assert graph.triple_type(*DRUG_TARGET) == DRUG_TARGET


def write(root: Path, columns: dict[str, list[int]], heldout: list[int]) -> Manifest:
    tables = tuple(NodeTable(n, 1, "float32", c, 1, ()) for n, c in zip(TYPES, COUNTS, strict=True))
    arrays = {k: np.array(v) for k, v in columns.items()}
    triples = {"train": write_blocks(root, "triples", "train", triple_layout(), arrays)}
    held = {
        "test": write_blocks(root, "heldout", "test", heldout_layout(), {"node": np.array(heldout)})
    }
    return Manifest("toy", tables, RELATIONS, (), triples, held, {}, {})


def test_a_written_graph_comes_back(tmp_path: Path, graph: Graph) -> None:
    train = graph.facts["train"]
    manifest = write(tmp_path, {k: v.tolist() for k, v in vars(train).items()}, [8, 14])
    back = load_graph(tmp_path, manifest)
    assert (back.node_types, back.counts, back.relations) == (TYPES, COUNTS, RELATIONS)
    assert all(np.array_equal(v, vars(back.facts["train"])[k]) for k, v in vars(train).items())
    assert back.heldout["test"].tolist() == [8, 14]
    assert isinstance(manifest.triples["train"], TripleFile)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("head", 15, "has head id 15; the manifest has 15"),
        ("tail", 99, "has tail id 99; the manifest has 15"),
        ("relation", 2, "has relation id 2; the manifest has 2"),
    ],
)
def test_facts_about_nothing_are_refused(
    tmp_path: Path, column: str, value: int, message: str
) -> None:
    columns = {"head": [4, 5], "relation": [1, 1], "tail": [9, 9], "mirrored": [1, 1]}
    columns[column][1] = value
    with pytest.raises(InputError, match=message):
        load_graph(tmp_path, write(tmp_path, columns, [8]))


def test_held_out_nodes_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    columns = {"head": [4], "relation": [1], "tail": [9], "mirrored": [1]}
    with pytest.raises(InputError, match="held-out node 15; the manifest has 15 nodes"):
        load_graph(tmp_path, write(tmp_path, columns, [8, 15]))


def test_a_fraction_of_the_training_facts_grows_by_nesting_and_the_rest_stays_known(graph):
    rng = np.random.default_rng(0)
    rows = [(int(d), 1, int(p)) for d, p in rng.integers((4, 9), (9, 15), (300, 2))]
    graph = replace(graph, facts={**graph.facts, "train": facts(*rows)})
    small, large = (subsample_facts(graph, f, seed=3) for f in (0.2, 0.6))

    def train(g):
        kept = g.facts["train"]
        return list(zip(kept.head.tolist(), kept.tail.tolist(), strict=True))

    assert 30 < len(train(small)) < 90 < 140 < len(train(large)) < 220
    left = train(large)
    for fact in train(small):
        left.remove(fact)
    assert (
        train(subsample_facts(graph, 0.2, seed=4))
        != train(small)
        == train(subsample_facts(graph, 0.2, seed=3))
    )
    for kind, known in known_positives(graph, graph.facts).items():
        again = known_positives(small, small.facts)[kind]
        np.testing.assert_array_equal(again.indptr, known.indptr)
        np.testing.assert_array_equal(again.tails, known.tails)
    for kind, asked in graph.queries("test").items():
        np.testing.assert_array_equal(small.queries("test")[kind], asked)
    assert subsample_facts(graph, 1.0, seed=3) is graph
    for bad in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(InputError, match="must lie within"):
            subsample_facts(graph, bad, seed=0)
