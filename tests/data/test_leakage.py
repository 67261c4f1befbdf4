"""Leakage audit on small graphs whose leaks are known."""

from dataclasses import replace

import pytest

from bridge_jax.data.graph import TripleType
from bridge_jax.data.leakage import audit, densities, node_pairs_by_triple_type, overlaps
from tests.helpers.graphs import graph_of


def test_audit_finds_exact_and_mirrored_rows() -> None:
    train = [(40, 3, 100), (41, 3, 101), (100, 2, 101)]
    test = [(40, 3, 100), (101, 3, 41), (101, 2, 100), (42, 3, 100)]
    report = audit(graph_of(train=train, test=test))
    assert (report.rows, report.exact, report.mirror, report.unseen_node) == (8, 2, 4, 2)
    assert not report.has_no_leakage


def test_audit_finds_a_near_duplicate_relation() -> None:
    """`indication` and `off-label use` join the same pairs, so each reveals the other."""
    pairs = [(40 + i, 2 * i % 40) for i in range(20)]
    train = [(h, 0, t) for h, t in pairs] + [(h, 1, t) for h, t in pairs[:11]]
    train += [(60 + i, 0, i) for i in range(10)]
    train.append((40, 3, 100))
    test = [(h, 1, t) for h, t in pairs[11:]] + [(40, 3, 101)]
    graph = graph_of(train=train, test=test)
    results = overlaps(node_pairs_by_triple_type(graph))
    assert [(o.shared, o.jaccard, o.containment) for o in results] == [(20, 20 / 30, 1.0)]
    report = audit(graph)
    assert (report.near_duplicate, report.other_relation) == (18, 0)
    assert (report.exact, report.mirror) == (0, 0)
    assert not report.has_no_leakage


def test_a_small_overlap_is_not_leakage() -> None:
    pairs = [(40 + i, i) for i in range(20)]
    train = [(h, 0, t) for h, t in pairs]
    test = [(h, 1, t) for h, t in pairs[:8]] + [(h, 1, t + 1) for h, t in pairs[:12]]
    graph = graph_of(train=train, test=test)
    (overlap,) = overlaps(node_pairs_by_triple_type(graph))
    assert (overlap.shared, overlap.containment, overlap.is_near_duplicate) == (8, 0.4, False)
    report = audit(graph)
    assert (report.near_duplicate, report.other_relation) == (0, 16)
    assert report.has_no_leakage


def test_audit_finds_a_triple_type_that_is_nearly_a_cartesian_product() -> None:
    grid = [(40 + h, 3, 100 + t) for h in range(9) for t in range(8)]
    elsewhere = [(100, 2, 111), (50, 0, 0)]  # nodes with training facts, but outside the grid
    graph = graph_of(train=grid[1:] + elsewhere, test=[grid[0], (50, 3, 100), (45, 3, 111)])
    results = densities(graph, node_pairs_by_triple_type(graph))
    target = next(d for d in results if d.triple_type.relation == "target")
    assert (target.facts, target.heads, target.tails) == (74, 10, 9)
    assert target.density == pytest.approx(74 / 90)
    assert target.is_cartesian
    report = audit(graph)
    assert report.cartesian == 2  # a fact with a node outside the grid is not revealed
    assert not report.has_no_leakage


def test_density_counts_each_pair_once_and_a_single_head_is_not_a_product() -> None:
    clique = [(100 + i, 2, 100 + j) for i in range(5) for j in range(i)]
    star = [(40, 3, 100 + i) for i in range(9)]
    graph = graph_of(train=clique + star, test=[(40, 3, 110)])
    results = {d.triple_type: d for d in densities(graph, node_pairs_by_triple_type(graph))}
    ppi = results[TripleType("gene/protein", "ppi", "gene/protein")]
    assert (ppi.facts, ppi.heads, ppi.density, ppi.is_cartesian) == (10, 5, 1.0, True)
    target = results[TripleType("drug", "target", "gene/protein")]
    assert (target.density, target.is_cartesian) == (1.0, False)


def test_a_directed_graph_counts_each_row_once() -> None:
    graph = graph_of(train=[(40, 3, 100)], test=[(100, 3, 40), (41, 3, 100)])
    graph = replace(graph, directed=True)
    report = audit(graph)
    assert (report.rows, report.exact, report.mirror, report.unseen_node) == (2, 0, 1, 1)
    assert [len(keys) for keys in node_pairs_by_triple_type(graph).values()] == [2]
