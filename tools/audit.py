"""Report what the training split of a dataset reveals of the other splits.

    python -m tools.audit DATASET

Counts four kinds of leakage, in directed rows: the same fact (exact), the fact in the opposite
direction (mirror), the same nodes under a near-duplicate relation, and nodes of a triple type that
is nearly a Cartesian product. Also prints where a directed split keeps mirror images, overlaps and
densities of triple types, node degrees, and how many held-out nodes have queries. Exits with 1 if
the split leaks.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.graph import Graph, load_graph
from bridge_jax.data.leakage import (
    CARTESIAN_DENSITY,
    NEAR_DUPLICATE_OVERLAP,
    Density,
    LeakageReport,
    Overlap,
    audit,
    densities,
    node_pairs_by_triple_type,
    overlaps,
)
from bridge_jax.data.manifest import SPLITS, read_manifest
from bridge_jax.formatting import text_table

_LEAKS = ("exact", "mirror", "near_duplicate", "cartesian")  # fields of a report that are leaks


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module docstring."""
    args = _parser().parse_args(argv)
    manifest = read_manifest(args.dataset)
    graph = load_graph(args.dataset, manifest)
    reports = {s: audit(graph, s) for s in SPLITS[1:] if s in graph.facts}
    node_pairs = node_pairs_by_triple_type(graph)
    sections = [
        f"{Path(args.dataset)}: split {manifest.split['rule']}, seed {manifest.split['seed']}",
        _leakage_table(reports),
    ]
    if graph.directed:
        sections.append(_mirror_table(graph, reports))
    sections += [
        _overlap_table(overlaps(node_pairs)),
        _triple_type_table(graph, densities(graph, node_pairs)),
        _node_table(graph, _degrees(node_pairs.values(), sum(graph.counts))),
        _verdict(reports),
    ]
    print("\n\n".join(sections))
    return 0 if all(report.has_no_leakage for report in reports.values()) else 1


def _leakage_table(reports: Mapping[str, LeakageReport]) -> str:
    rows = []
    for split, report in reports.items():
        leaked = sum(getattr(report, name) for name in _LEAKS)
        rows.append([split, *vars(report).values(), f"{leaked / max(report.rows, 1):.1%}"])
    names = [f.name.replace("_", " ") for f in fields(LeakageReport)]
    return text_table(rows, ("revealed by train", *names, "leaked"))


def _mirror_table(graph: Graph, reports: Mapping[str, LeakageReport]) -> str:
    rows = []
    for split, report in reports.items():
        counts = [audit(graph, split, seen_split=other).mirror for other in SPLITS]
        cells = [f"{n:,} ({n / max(report.rows, 1):.1%})" for n in counts]
        rows.append([split, report.rows, *cells, report.rows - sum(counts)])
    header = ("mirror image of", "rows", *(f"in {s}" for s in SPLITS), "not stored")
    note = "(the mirror image of a row is in the split of the row's tail)"
    return f"{text_table(rows, header)}\n{note}"


def _overlap_table(type_overlaps: Sequence[Overlap]) -> str:
    if not type_overlaps:
        return "no two triple types share a pair of nodes"
    rows = [
        [
            o.first,
            o.second,
            o.shared,
            o.jaccard,
            o.containment,
            "yes" if o.is_near_duplicate else "",
        ]
        for o in type_overlaps
    ]
    table = text_table(
        rows, ("triple type", "and", "shared pairs", "jaccard", "containment", "near duplicate")
    )
    return f"{table}\n(near duplicate: jaccard or containment above {NEAR_DUPLICATE_OVERLAP})"


def _triple_type_table(graph: Graph, triple_types: Sequence[Density]) -> str:
    pairs = graph.pairs()
    rows = []
    for item in triple_types:
        tails_per_head = np.bincount(pairs[item.triple_type].heads)
        heads_per_tail = np.sort(np.bincount(pairs[item.triple_type].tails))[::-1]
        num_hubs = max(1, round(0.01 * np.count_nonzero(heads_per_tail)))
        rows.append(
            [
                item.triple_type,
                item.facts,
                item.heads,
                item.tails,
                float(tails_per_head[tails_per_head > 0].mean()),
                int(tails_per_head.max()),
                f"{heads_per_tail[:num_hubs].sum() / heads_per_tail.sum():.0%}",
                f"{item.density:.4f}",
                "yes" if item.is_cartesian else "",
            ]
        )
    header = ("triple type", "facts", "heads", "tails", "tails per head", "max",
              "to top 1 % of tails", "density", "cartesian")  # fmt: skip
    return text_table(rows, header) + f"\n(cartesian: density above {CARTESIAN_DENSITY:.0%})"


def _degrees(pair_keys: Iterable[np.ndarray], num_nodes: int) -> np.ndarray:
    """Counts the facts of each node; keys are `low * num_nodes + high`."""
    degree = np.zeros(num_nodes, np.int64)
    for keys in pair_keys:
        degree += np.bincount(keys // num_nodes, minlength=num_nodes)
        degree += np.bincount(keys % num_nodes, minlength=num_nodes)
    return degree


def _node_table(graph: Graph, degree: np.ndarray) -> str:
    train = graph.facts["train"]
    train_degree = np.bincount(np.concatenate([train.head, train.tail]), minlength=len(degree))
    has_query = np.zeros(len(degree), bool)
    for triple_type, pairs in graph.queries("test").items():
        has_query[graph.offsets[graph.type_id(triple_type.head)] + pairs.heads] = True
    rows = []
    for i, node_type in enumerate(graph.node_types):
        if not graph.counts[i]:
            continue
        span = slice(graph.offsets[i], graph.offsets[i + 1])
        of_type = degree[span]
        rows.append(
            [
                node_type,
                len(of_type),
                int((of_type == 0).sum()),
                int((train_degree[span] == 0).sum()),
                int(np.median(of_type)),
                float(of_type.mean()),
                int(of_type.max()),
                *(int(graph.heldout_mask(node_type, [s]).sum()) for s in SPLITS[1:]),
                int(has_query[span].sum()),
            ]
        )
    return text_table(
        rows,
        ("node type", "nodes", "no fact", "no training fact", "median degree", "mean", "max",
         "held out: validation", "test", "with test queries"),
    )  # fmt: skip


def _verdict(reports: Mapping[str, LeakageReport]) -> str:
    leaks = [
        f"{split}: {getattr(report, name):,} of {report.rows:,} rows {name.replace('_', ' ')}"
        for split, report in reports.items()
        for name in _LEAKS
        if getattr(report, name)
    ]
    return f"LEAKY: training reveals {'; '.join(leaks)}" if leaks else "clean: no leakage"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.audit", __doc__)
    parser.add_argument("dataset", help="dataset directory")
    return parser


if __name__ == "__main__":
    cli.run(main)
