"""Split rules and the audit: deterministic, nothing leaks unless the rule says so."""

from dataclasses import replace

import numpy as np
import pytest

from bridge_jax.data.graph import Facts, Graph, TripleType
from bridge_jax.data.leakage import audit, blocks, node_pairs_by_triple_type, overlaps
from bridge_jax.data.splits import collapse, split_facts
from bridge_jax.errors import InputError

TYPES, COUNTS = ("disease", "drug", "gene/protein"), (40, 60, 100)
RELATIONS = ("indication", "off-label use", "ppi", "target")
KINDS = ((1, 3, 2), (1, 0, 0), (1, 1, 0), (2, 2, 2))  # head type, relation, tail type
IDS = [[f"{t}:{i}" for i in range(n)] for t, n in zip(TYPES, COUNTS, strict=True)]
TYPES_OF = np.repeat(np.arange(3), COUNTS)
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])


def whole(seed: int = 0, rows: int = 400) -> Graph:
    """Random facts of four kinds; two thirds of them stored in both directions."""
    rng = np.random.default_rng(seed)
    parts = []
    for head, relation, tail in KINDS:
        h = OFFSETS[head] + rng.integers(0, COUNTS[head], rows)
        t = OFFSETS[tail] + rng.integers(0, COUNTS[tail], rows)
        parts.append(np.stack([h, np.full(rows, relation), t]))
    h, r, t = np.concatenate(parts, axis=1)
    keep = h != t
    h, r, t = h[keep], r[keep], t[keep]
    back = rng.random(len(h)) < 2 / 3
    head, tail = np.concatenate([h, t[back]]), np.concatenate([t, h[back]])
    facts = collapse(head, np.concatenate([r, r[back]]), tail, TYPES_OF).facts
    return Graph(TYPES, COUNTS, RELATIONS, {"train": facts})


def rows_of(facts: Facts) -> set[tuple[int, int, int]]:
    return set(zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True))


def same(a: Graph, b: Graph) -> bool:
    return all(rows_of(a.facts[s]) == rows_of(b.facts[s]) for s in a.facts) and all(
        np.array_equal(a.heldout[s], b.heldout[s]) for s in a.heldout
    )


RULES = {
    "inductive": {},
    "transductive": {},
    "biobridge": {},
    "relation": {"hold_out": ["drug,target,gene/protein"]},
    "modality": {"hold_out": ["disease"]},
}


@pytest.mark.parametrize("rule", RULES)
def test_every_fact_lands_in_one_split_the_same_way_each_time(rule: str) -> None:
    graph = whole()
    first, again, other = (split_facts(graph, IDS, rule, s, **RULES[rule]) for s in (7, 7, 8))
    assert same(first, again)
    assert not same(first, other)
    parts = [rows_of(first.facts[s]) for s in ("train", "validation", "test")]
    assert all(parts)
    assert len(set.union(*parts)) == sum(len(p) for p in parts)
    if rule != "biobridge":
        assert set.union(*parts) == rows_of(graph.facts["train"])


@pytest.mark.parametrize("rule", ["inductive", "biobridge", "modality"])
def test_held_out_nodes_do_not_depend_on_their_order(rule: str) -> None:
    """A node's split follows from its id, so a reordered source gives the same split."""
    graph = whole()
    split = split_facts(graph, IDS, rule, 3, **RULES[rule])
    turned = [names[::-1] for names in IDS]
    again = split_facts(graph, turned, rule, 3, **RULES[rule])

    def names(ids: list[list[str]], held: Graph) -> set[str]:
        flat = [n for group in ids for n in group]
        return {flat[i] for i in held.heldout["test"]}

    assert names(IDS, split) == names(turned, again)


def test_inductive_leaks_nothing_and_holds_out_the_asked_share() -> None:
    graph = split_facts(whole(), IDS, "inductive", 0, test=0.2, validation=0.1)
    for i, (kind, count) in enumerate(zip(TYPES, COUNTS, strict=True)):
        assert (TYPES_OF[graph.heldout["test"]] == i).sum() == round(0.2 * count)
        assert (TYPES_OF[graph.heldout["validation"]] == i).sum() == round(0.1 * count)
        assert len(graph.train_nodes(kind)) == count - round(0.2 * count) - round(0.1 * count)
    train = graph.facts["train"]
    held = np.concatenate(list(graph.heldout.values()))
    assert not np.isin(np.concatenate([train.head, train.tail]), held).any()
    validation = graph.facts["validation"]
    test_nodes = graph.heldout["test"]
    assert not np.isin(np.concatenate([validation.head, validation.tail]), test_nodes).any()
    for split in ("validation", "test"):
        leak = audit(graph, split)
        assert leak.clean
        assert (leak.exact, leak.mirror, leak.near_duplicate, leak.cartesian) == (0, 0, 0, 0)
        assert leak.other_relation == 0
        assert leak.unseen_node == leak.rows == 2 * len(graph.facts[split])


def test_transductive_keeps_every_node_in_training() -> None:
    graph = whole()
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
    graph = Graph(TYPES, COUNTS, RELATIONS, {"train": star})
    with pytest.raises(InputError, match="leaves no test fact of 20"):
        split_facts(graph, IDS, "transductive", 0)


def test_biobridge_leaks_the_mirror_image_of_every_test_row_with_a_training_tail() -> None:
    graph = whole()
    split = split_facts(graph, IDS, "biobridge", 0)
    test, stored = split.facts["test"], rows_of(graph.facts["train"])
    held = np.concatenate(list(split.heldout.values()))
    assert np.isin(test.head, split.heldout["test"]).all()
    both_ways = rows_of(split.facts["train"]) | rows_of(split.facts["validation"]) | rows_of(test)
    assert all(row in both_ways for row in stored)
    expected = sum((t, r, h) in both_ways and t not in held for h, r, t in rows_of(test))
    leak = audit(split)
    assert (leak.rows, leak.exact, leak.mirror) == (len(test), 0, expected)
    assert leak.mirror > len(test) / 3
    assert not leak.clean
    assert split.directed


def test_relation_holds_out_the_named_kind_and_validates_on_others() -> None:
    graph = whole()
    split = split_facts(
        graph, IDS, "relation", 0, validation=0.1, hold_out=["drug,target,gene/protein"]
    )
    assert set(split.facts["test"].relation) == {3}
    assert len(split.facts["test"]) == (graph.facts["train"].relation == 3).sum()
    assert set(split.facts["train"].relation) == {0, 1, 2}
    assert set(split.facts["validation"].relation) == {0, 1, 2}
    assert split.heldout == {}
    turned = split_facts(
        graph, IDS, "relation", 0, validation=0.1, hold_out=[" gene/protein, target,drug"]
    )
    assert same(split, turned)


def test_several_kinds_can_be_held_out() -> None:
    names = ["drug,target,gene/protein", "drug,indication,disease"]
    split = split_facts(whole(), IDS, "relation", 0, hold_out=names)
    assert set(split.facts["test"].relation) == {0, 3}
    assert 0 not in split.facts["train"].relation


def test_modality_holds_out_every_fact_of_a_type_and_asks_from_it() -> None:
    split = split_facts(whole(), IDS, "modality", 0, validation=0.1, hold_out=["disease"])
    for part in ("train", "validation"):
        ends = np.concatenate([split.facts[part].head, split.facts[part].tail])
        assert not (TYPES_OF[ends] == 0).any()
    test = split.facts["test"]
    assert (TYPES_OF[test.tail] == 0).all()
    assert split.heldout["test"].tolist() == list(range(40))
    assert {TYPES_OF[n] for n in split.heldout["validation"]} == {1, 2}
    asked = {k: len(p.heads) for k, p in split.queries("test").items() if len(p.heads)}
    assert {k.head for k in asked} == {"disease"}
    assert sum(asked.values()) == len(test)
    assert len(split.train_nodes("disease")) == 0
    assert audit(split).clean


def test_nodes_of_one_group_are_held_out_together() -> None:
    rng = np.random.default_rng(0)
    groups = [[""] * 40, [f"scaffold{i // 4}" for i in range(60)]]
    groups.append([f"cluster{i}" if i else "" for i in rng.integers(0, 40, 100)])
    graph = whole()
    split = split_facts(graph, IDS, "inductive", 0, test=0.2, validation=0.2, groups=groups)
    part = np.zeros(200, int)
    for i, name in enumerate(("validation", "test"), 1):
        part[split.heldout[name]] = i
    for kind, names in enumerate(groups):
        parts = part[OFFSETS[kind] : OFFSETS[kind + 1]]
        for group in set(names) - {""}:
            assert len(set(parts[np.array(names) == group])) == 1, group
        for i in (1, 2):
            share = (parts == i).mean()
            assert 0.15 < share <= 0.2
    assert len(set(part[:40])) == 3  # nodes without a group are on their own
    assert not same(split, split_facts(graph, IDS, "inductive", 0, test=0.2, validation=0.2))
    alone = [[""] * n for n in COUNTS]
    plain = split_facts(graph, IDS, "inductive", 0)
    assert same(plain, split_facts(graph, IDS, "inductive", 0, groups=alone))


@pytest.mark.parametrize(
    ("rule", "given", "message"),
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
def test_impossible_splits_say_why(rule: str, given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_facts(whole(), IDS, rule, 0, **given)


def test_holding_out_every_kind_leaves_nothing_to_train_on() -> None:
    every = [f"{TYPES[h]},{RELATIONS[r]},{TYPES[t]}" for h, r, t in KINDS]
    with pytest.raises(InputError, match="leaves no train fact"):
        split_facts(whole(), IDS, "relation", 0, hold_out=every)


def graph_of(train: list[tuple[int, int, int]], test: list[tuple[int, int, int]]) -> Graph:
    def facts(rows: list[tuple[int, int, int]]) -> Facts:
        head, relation, tail = np.array(rows, np.int32).reshape(-1, 3).T
        return Facts(head, relation, tail, np.ones_like(head))

    return Graph(TYPES, COUNTS, RELATIONS, {"train": facts(train), "test": facts(test)})


def test_audit_finds_exact_and_mirrored_rows() -> None:
    train = [(40, 3, 100), (41, 3, 101), (100, 2, 101)]
    leak = audit(graph_of(train, [(40, 3, 100), (101, 3, 41), (101, 2, 100), (42, 3, 100)]))
    assert (leak.rows, leak.exact, leak.mirror, leak.unseen_node) == (8, 2, 4, 2)
    assert not leak.clean


def test_audit_finds_a_near_duplicate_relation() -> None:
    """`indication` and `off-label use` join the same pairs, so one gives the other away."""
    pairs = [(40 + i, 2 * i % 40) for i in range(20)]
    train = [(h, 0, t) for h, t in pairs] + [(h, 1, t) for h, t in pairs[:11]]
    train += [(60 + i, 0, i) for i in range(10)]
    graph = graph_of([*train, (40, 3, 100)], [(h, 1, t) for h, t in pairs[11:]] + [(40, 3, 101)])
    found = overlaps(graph, node_pairs_by_triple_type(graph))
    assert [(o.shared, o.jaccard, o.containment) for o in found] == [(20, 20 / 30, 1.0)]
    leak = audit(graph)
    assert (leak.near_duplicate, leak.other_relation, leak.exact, leak.mirror) == (18, 0, 0, 0)
    assert not leak.clean


def test_a_small_overlap_is_reported_but_is_no_leak() -> None:
    pairs = [(40 + i, i) for i in range(20)]
    train = [(h, 0, t) for h, t in pairs]
    test = [(h, 1, t) for h, t in pairs[:8]] + [(h, 1, t + 1) for h, t in pairs[:12]]
    graph = graph_of(train, test)
    (found,) = overlaps(graph, node_pairs_by_triple_type(graph))
    assert (found.shared, found.containment, found.near_duplicate) == (8, 0.4, False)
    leak = audit(graph)
    assert (leak.near_duplicate, leak.other_relation) == (0, 16)
    assert leak.clean


def test_audit_finds_a_near_complete_block() -> None:
    grid = [(40 + h, 3, 100 + t) for h in range(9) for t in range(8)]
    elsewhere = [(100, 2, 111), (50, 0, 0)]  # seen in training, but not in the block
    graph = graph_of(grid[1:] + elsewhere, [grid[0], (50, 3, 100), (45, 3, 111)])
    full = blocks(graph, node_pairs_by_triple_type(graph))
    target = next(b for b in full if b.kind.relation == "target")
    assert (target.facts, target.heads, target.tails) == (74, 10, 9)
    assert target.density == pytest.approx(74 / 90)
    assert target.cartesian
    leak = audit(graph)
    assert leak.cartesian == 2  # an end that is new to the block gives nothing away
    assert not leak.clean


def test_blocks_within_a_type_count_each_pair_once_and_single_rows_are_no_block() -> None:
    clique = [(100 + i, 2, 100 + j) for i in range(5) for j in range(i)]
    star = [(40, 3, 100 + i) for i in range(9)]
    graph = graph_of(clique + star, [(40, 3, 110)])
    found = {b.kind: b for b in blocks(graph, node_pairs_by_triple_type(graph))}
    ppi = found[TripleType("gene/protein", "ppi", "gene/protein")]
    assert (ppi.facts, ppi.heads, ppi.density, ppi.cartesian) == (10, 5, 1.0, True)
    target = found[TripleType("drug", "target", "gene/protein")]
    assert (target.density, target.cartesian) == (1.0, False)


def test_a_directed_graph_counts_its_rows_once() -> None:
    graph = replace(graph_of([(40, 3, 100)], [(100, 3, 40), (41, 3, 100)]), directed=True)
    leak = audit(graph)
    assert (leak.rows, leak.exact, leak.mirror, leak.unseen_node) == (2, 0, 1, 1)
    assert [len(k) for k in node_pairs_by_triple_type(graph).values()] == [2]
