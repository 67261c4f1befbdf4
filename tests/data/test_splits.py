"""Split rules: they are deterministic, and only `biobridge` leaks."""

import numpy as np
import pytest

from bridge_jax.data.graph import Facts, Graph
from bridge_jax.data.leakage import audit
from bridge_jax.data.splits import collapse, split_facts
from bridge_jax.errors import InputError
from tests.helpers.graphs import COUNTS, NODE_TYPES, RELATIONS, TYPES_OF, rows_of

TRIPLE_TYPES = ((1, 3, 2), (1, 0, 0), (1, 1, 0), (2, 2, 2))  # head type, relation, tail type
IDS = [[f"{t}:{i}" for i in range(n)] for t, n in zip(NODE_TYPES, COUNTS, strict=True)]
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])


def unsplit_graph(seed: int = 0, rows: int = 400) -> Graph:
    """Returns random facts of four triple types, two thirds of them stored in both directions."""
    rng = np.random.default_rng(seed)
    columns = []
    for head_type, relation, tail_type in TRIPLE_TYPES:
        h = OFFSETS[head_type] + rng.integers(0, COUNTS[head_type], rows)
        t = OFFSETS[tail_type] + rng.integers(0, COUNTS[tail_type], rows)
        columns.append(np.stack([h, np.full(rows, relation), t]))
    h, r, t = np.concatenate(columns, axis=1)
    keep = h != t
    h, r, t = h[keep], r[keep], t[keep]
    back = rng.random(len(h)) < 2 / 3
    head, tail = np.concatenate([h, t[back]]), np.concatenate([t, h[back]])
    facts = collapse(head, np.concatenate([r, r[back]]), tail, TYPES_OF).facts
    return Graph(NODE_TYPES, COUNTS, RELATIONS, {"train": facts})


def same_split(a: Graph, b: Graph) -> bool:
    return all(rows_of(a.facts[s]) == rows_of(b.facts[s]) for s in a.facts) and all(
        np.array_equal(a.heldout[s], b.heldout[s]) for s in a.heldout
    )


OPTIONS = {
    "inductive": {},
    "transductive": {},
    "biobridge": {},
    "relation": {"hold_out": ["drug,target,gene/protein"]},
    "modality": {"hold_out": ["disease"]},
}


@pytest.mark.parametrize("rule", OPTIONS)
def test_each_fact_is_in_one_split_and_the_seed_decides_which(rule: str) -> None:
    graph = unsplit_graph()
    first, again, other = (split_facts(graph, IDS, rule, s, **OPTIONS[rule]) for s in (7, 7, 8))
    assert same_split(first, again)
    assert not same_split(first, other)
    rows = [rows_of(first.facts[s]) for s in ("train", "validation", "test")]
    assert all(rows)
    assert len(set.union(*rows)) == sum(len(r) for r in rows)
    if rule != "biobridge":
        assert set.union(*rows) == rows_of(graph.facts["train"])


@pytest.mark.parametrize("rule", ["inductive", "biobridge", "modality"])
def test_held_out_nodes_depend_on_their_ids_and_not_on_their_order(rule: str) -> None:
    graph = unsplit_graph()
    split = split_facts(graph, IDS, rule, 3, **OPTIONS[rule])
    reversed_ids = [names[::-1] for names in IDS]
    again = split_facts(graph, reversed_ids, rule, 3, **OPTIONS[rule])

    def test_ids(ids: list[list[str]], split: Graph) -> set[str]:
        flat = [i for names in ids for i in names]
        return {flat[node] for node in split.heldout["test"]}

    assert test_ids(IDS, split) == test_ids(reversed_ids, again)


def test_inductive_has_no_leakage_and_holds_out_the_given_fractions() -> None:
    graph = split_facts(unsplit_graph(), IDS, "inductive", 0, test=0.2, validation=0.1)
    for i, (node_type, count) in enumerate(zip(NODE_TYPES, COUNTS, strict=True)):
        assert (TYPES_OF[graph.heldout["test"]] == i).sum() == round(0.2 * count)
        assert (TYPES_OF[graph.heldout["validation"]] == i).sum() == round(0.1 * count)
        assert len(graph.train_nodes(node_type)) == count - round(0.2 * count) - round(0.1 * count)
    train = graph.facts["train"]
    heldout = np.concatenate(list(graph.heldout.values()))
    assert not np.isin(np.concatenate([train.head, train.tail]), heldout).any()
    validation = graph.facts["validation"]
    test_nodes = graph.heldout["test"]
    assert not np.isin(np.concatenate([validation.head, validation.tail]), test_nodes).any()
    for split in ("validation", "test"):
        report = audit(graph, split)
        assert report.has_no_leakage
        assert (report.exact, report.mirror) == (0, 0)
        assert (report.near_duplicate, report.cartesian, report.other_relation) == (0, 0, 0)
        assert report.unseen_node == report.rows == 2 * len(graph.facts[split])


def test_transductive_keeps_every_node_in_training_facts() -> None:
    graph = unsplit_graph()
    split = split_facts(graph, IDS, "transductive", 0, test=0.2, validation=0.1)
    before, after = graph.facts["train"], split.facts["train"]
    assert set(np.concatenate([before.head, before.tail])) == set(
        np.concatenate([after.head, after.tail])
    )
    assert split.heldout == {}
    assert audit(split).unseen_node == 0
    for relation in range(4):
        total = (before.relation == relation).sum()
        assert (split.facts["test"].relation == relation).sum() == round(0.2 * total)
        assert (split.facts["validation"].relation == relation).sum() == round(0.1 * total)


def test_transductive_never_takes_a_nodes_last_fact() -> None:
    star = Facts(
        np.arange(40, 60, dtype=np.int32),
        np.full(20, 3, np.int32),
        np.full(20, 100, np.int32),
        np.ones(20, np.int32),
    )
    graph = Graph(NODE_TYPES, COUNTS, RELATIONS, {"train": star})
    with pytest.raises(InputError, match="leaves no test fact of 20"):
        split_facts(graph, IDS, "transductive", 0)


def test_biobridge_leaks_the_mirror_image_of_each_test_row_with_a_training_tail() -> None:
    graph = unsplit_graph()
    split = split_facts(graph, IDS, "biobridge", 0)
    test, stored = split.facts["test"], rows_of(graph.facts["train"])
    heldout = np.concatenate(list(split.heldout.values()))
    assert np.isin(test.head, split.heldout["test"]).all()
    rows = rows_of(split.facts["train"]) | rows_of(split.facts["validation"]) | rows_of(test)
    assert all(row in rows for row in stored)
    expected = sum((t, r, h) in rows and t not in heldout for h, r, t in rows_of(test))
    report = audit(split)
    assert (report.rows, report.exact, report.mirror) == (len(test), 0, expected)
    assert report.mirror > len(test) / 3
    assert not report.has_no_leakage
    assert split.directed


def test_relation_holds_out_a_triple_type_and_validates_on_others() -> None:
    graph = unsplit_graph()
    split = split_facts(
        graph, IDS, "relation", 0, validation=0.1, hold_out=["drug,target,gene/protein"]
    )
    assert set(split.facts["test"].relation) == {3}
    assert len(split.facts["test"]) == (graph.facts["train"].relation == 3).sum()
    assert set(split.facts["train"].relation) == {0, 1, 2}
    assert set(split.facts["validation"].relation) == {0, 1, 2}
    assert split.heldout == {}
    reverse = split_facts(
        graph, IDS, "relation", 0, validation=0.1, hold_out=[" gene/protein, target,drug"]
    )
    assert same_split(split, reverse)


def test_relation_can_hold_out_several_triple_types() -> None:
    names = ["drug,target,gene/protein", "drug,indication,disease"]
    split = split_facts(unsplit_graph(), IDS, "relation", 0, hold_out=names)
    assert set(split.facts["test"].relation) == {0, 3}
    assert 0 not in split.facts["train"].relation


def test_modality_holds_out_each_fact_of_a_node_type_and_queries_from_it() -> None:
    split = split_facts(unsplit_graph(), IDS, "modality", 0, validation=0.1, hold_out=["disease"])
    for name in ("train", "validation"):
        ends = np.concatenate([split.facts[name].head, split.facts[name].tail])
        assert not (TYPES_OF[ends] == 0).any()
    test = split.facts["test"]
    assert (TYPES_OF[test.tail] == 0).all()
    assert split.heldout["test"].tolist() == list(range(40))
    assert {TYPES_OF[n] for n in split.heldout["validation"]} == {1, 2}
    queries = {t: len(p.heads) for t, p in split.queries("test").items() if len(p.heads)}
    assert {t.head for t in queries} == {"disease"}
    assert sum(queries.values()) == len(test)
    assert len(split.train_nodes("disease")) == 0
    assert audit(split).has_no_leakage


def test_nodes_of_a_group_are_held_out_together() -> None:
    rng = np.random.default_rng(0)
    groups = [[""] * 40, [f"scaffold{i // 4}" for i in range(60)]]
    groups.append([f"cluster{i}" if i else "" for i in rng.integers(0, 40, 100)])
    graph = unsplit_graph()
    split = split_facts(graph, IDS, "inductive", 0, test=0.2, validation=0.2, groups=groups)
    split_of_node = np.zeros(200, int)
    for i, name in enumerate(("validation", "test"), 1):
        split_of_node[split.heldout[name]] = i
    for node_type, names in enumerate(groups):
        splits = split_of_node[OFFSETS[node_type] : OFFSETS[node_type + 1]]
        for group in set(names) - {""}:
            assert len(set(splits[np.array(names) == group])) == 1, group
        for i in (1, 2):
            fraction = (splits == i).mean()
            assert 0.15 < fraction <= 0.2
    assert len(set(split_of_node[:40])) == 3  # each node without a group is held out alone
    assert not same_split(split, split_facts(graph, IDS, "inductive", 0, test=0.2, validation=0.2))
    no_groups = [[""] * n for n in COUNTS]
    without = split_facts(graph, IDS, "inductive", 0)
    assert same_split(without, split_facts(graph, IDS, "inductive", 0, groups=no_groups))


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("random", {}, r"split rule 'random' is not .* has: inductive"),
        ("inductive", {"test": 0.0}, r"test 0\.0 and validation"),
        ("inductive", {"test": 0.6, "validation": 0.4}, "within"),
        ("inductive", {"test": 0.1, "validation": -0.1}, "within"),
        ("inductive", {"hold_out": ["disease"]}, "takes no hold_out"),
        ("relation", {}, "name with hold_out"),
        ("relation", {"hold_out": ["drug,target"]}, "must read head,relation,tail"),
        ("relation", {"hold_out": ["drug,targets,gene/protein"]}, r"mean 'target'\?"),
        ("relation", {"hold_out": ["drug,ppi,disease"]}, "triple type 'drug → ppi → disease'"),
        ("modality", {"hold_out": ["gene"]}, "node type 'gene' is not"),
        ("modality", {"hold_out": ["drug", "gene/protein"]}, "leaves no train fact"),
        ("transductive", {"groups": [[], [], []]}, "holds out no nodes"),
    ],
)
def test_an_impossible_split_is_an_input_error(rule: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_facts(unsplit_graph(), IDS, rule, 0, **options)


def test_holding_out_all_triple_types_is_an_input_error() -> None:
    names = [f"{NODE_TYPES[h]},{RELATIONS[r]},{NODE_TYPES[t]}" for h, r, t in TRIPLE_TYPES]
    with pytest.raises(InputError, match="leaves no train fact"):
        split_facts(unsplit_graph(), IDS, "relation", 0, hold_out=names)
