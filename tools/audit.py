"""Print what a dataset's training split gives away of the others; refuse to call a leak clean.

    python -m tools.audit DATASET

Four leaks, counted in directed rows: the same fact, its mirror image, the same nodes under a
near-duplicate relation, and both ends inside a near-complete block. Then where a directed split
keeps the mirror images, the degrees, and how much of what is held out can be asked about. Exits
with 1 when the split leaks.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import SPLITS, read_manifest
from bridge_jax.data.graph import Graph, load_graph
from bridge_jax.data.leakage import (
    DENSITY,
    OVERLAP,
    Block,
    LeakageReport,
    Overlap,
    audit,
    blocks,
    node_pairs_by_triple_type,
    overlaps,
)
from bridge_jax.formatting import text_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    manifest = read_manifest(args.dataset)
    graph = load_graph(args.dataset, manifest)
    leaks = {s: audit(graph, s) for s in SPLITS[1:] if s in graph.facts}
    pairs = node_pairs_by_triple_type(graph)
    parts = [
        f"{Path(args.dataset)}: split {manifest.split['rule']}, seed {manifest.split['seed']}",
        _leaks(leaks),
    ]
    if graph.directed:
        parts.append(_mirrors(graph, leaks))
    degree = np.zeros(sum(graph.counts), np.int64)
    for keys in pairs.values():
        degree += np.bincount(keys // len(degree), minlength=len(degree))
        degree += np.bincount(keys % len(degree), minlength=len(degree))
    parts += [_overlaps(overlaps(graph, pairs)), _kinds(graph, blocks(graph, pairs))]
    parts.append(_nodes(graph, degree))
    clean = all(leak.clean for leak in leaks.values())
    print("\n\n".join([*parts, _verdict(leaks)]))
    return 0 if clean else 1


def _leaks(leaks: dict[str, LeakageReport]) -> str:
    rows = [[s, *vars(leak).values(), f"{_given(leak):.1%}"] for s, leak in leaks.items()]
    names = [f.name.replace("_", " ") for f in fields(LeakageReport)]
    return text_table(rows, ("given away by train", *names, "leaked"))


def _given(leak: LeakageReport) -> float:
    given = leak.exact + leak.mirror + leak.near_duplicate + leak.cartesian
    return given / max(leak.rows, 1)


def _mirrors(graph: Graph, leaks: dict[str, LeakageReport]) -> str:
    rows = []
    for split, leak in leaks.items():
        counts = [audit(graph, split, against=other).mirror for other in SPLITS]
        shares = [f"{n:,} ({n / max(leak.rows, 1):.1%})" for n in counts]
        rows.append([split, leak.rows, *shares, leak.rows - sum(counts)])
    header = ("mirror image of", "rows", *(f"in {s}" for s in SPLITS), "not stored")
    note = "(a mirror image lies in the split that its row's tail belongs to)"
    return f"{text_table(rows, header)}\n{note}"


def _overlaps(found: Sequence[Overlap]) -> str:
    if not found:
        return "no two triple types share a pair of nodes"
    rows = [
        [o.first, o.second, o.shared, o.jaccard, o.containment, "yes" if o.near_duplicate else ""]
        for o in found
    ]
    table = text_table(
        rows, ("triple type", "and", "shared pairs", "jaccard", "containment", "near duplicate")
    )
    return f"{table}\n(near duplicate: jaccard or containment above {OVERLAP})"


def _kinds(graph: Graph, found: Sequence[Block]) -> str:
    pairs = graph.pairs()
    rows = []
    for block in found:
        per_head = np.bincount(pairs[block.kind].heads)
        per_tail = np.sort(np.bincount(pairs[block.kind].tails))[::-1]
        hubs = per_tail[: max(1, round(0.01 * np.count_nonzero(per_tail)))].sum()
        rows.append(
            [
                block.kind,
                block.facts,
                block.heads,
                block.tails,
                float(per_head[per_head > 0].mean()),
                int(per_head.max()),
                f"{hubs / per_tail.sum():.0%}",
                f"{block.density:.4f}",
                "yes" if block.cartesian else "",
            ]
        )
    header = ("triple type", "facts", "heads", "tails", "tails a head", "max",
              "to top 1 % of tails", "density", "block")  # fmt: skip
    return text_table(rows, header) + f"\n(block: density above {DENSITY:.0%})"


def _nodes(graph: Graph, degree: np.ndarray) -> str:
    train = graph.facts["train"]
    trained = np.bincount(np.concatenate([train.head, train.tail]), minlength=len(degree))
    asked = np.zeros(len(degree), bool)
    for kind, pairs in graph.queries("test").items():
        asked[graph.offsets[graph.type_id(kind.head)] + pairs.heads] = True
    rows = []
    for i, kind in enumerate(graph.node_types):
        if not graph.counts[i]:
            continue
        span = slice(graph.offsets[i], graph.offsets[i + 1])
        held = [graph.heldout_mask(kind, [s]) for s in SPLITS[1:]]
        one = degree[span]
        rows.append(
            [
                kind,
                len(one),
                int((one == 0).sum()),
                int((trained[span] == 0).sum()),
                int(np.median(one)),
                float(one.mean()),
                int(one.max()),
                *(int(h.sum()) for h in held),
                int(asked[span].sum()),
            ]
        )
    return text_table(
        rows,
        ("node type", "nodes", "no fact", "no training fact", "median degree", "mean", "max",
         "held out: validation", "test", "asked about in test"),
    )  # fmt: skip


def _verdict(leaks: dict[str, LeakageReport]) -> str:
    found = [
        f"{s}: {getattr(leak, f.name):,} of {leak.rows:,} rows {f.name.replace('_', ' ')}"
        for s, leak in leaks.items()
        for f in fields(LeakageReport)
        if f.name in ("exact", "mirror", "near_duplicate", "cartesian") and getattr(leak, f.name)
    ]
    return f"LEAKY: training gives away {'; '.join(found)}" if found else "clean: nothing leaks"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.audit", __doc__)
    parser.add_argument("dataset", help="the dataset directory")
    return parser


if __name__ == "__main__":
    cli.run(main)
