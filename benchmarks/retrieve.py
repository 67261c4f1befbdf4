"""Exact search of this package beside FAISS's flat index, on the same cores.

    python benchmarks/retrieve.py --keys 131072 --dim 128 --queries 256 --k 10

Random unit vectors; `bridge_jax.retrieval.exact_index.Index` and `faiss.IndexFlatIP` answer the same
queries in alternating turns, the first of a round changing, so that a busy machine slows both
alike. Both are exact: for every query the two sets of keys must be the same, but for keys whose
scores the two round to a tie. Prints the rates and the ratio of each pair of turns.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridge_jax import cli
from bridge_jax.errors import InputError

TIE = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.retrieval.exact_index import Index

    try:
        import faiss
    except ImportError as e:
        raise InputError("this benchmark needs FAISS: pip install 'bridge_jax[faiss]'") from e
    cores = len(os.sched_getaffinity(0))
    faiss.omp_set_num_threads(cores)
    rng = np.random.default_rng(0)
    keys, queries = (_unit(rng, n, args.dim) for n in (args.keys, args.queries))
    flat = faiss.IndexFlatIP(args.dim)
    flat.add(keys)
    index = Index(keys)
    search = {
        "faiss": lambda: flat.search(queries, args.k),
        "bridge_jax": lambda: index.search(queries, args.k),
    }
    theirs, ours = (one() for one in search.values())  # warms both up
    different = _different(theirs, ours)

    seconds: dict[str, list[float]] = {name: [] for name in search}
    for turn in range(args.turns):
        for name in sorted(search, reverse=bool(turn % 2)):
            start = time.perf_counter()
            search[name]()
            seconds[name].append(time.perf_counter() - start)
    ratios = [f / o for f, o in zip(seconds["faiss"], seconds["bridge_jax"], strict=True)]
    result = {
        "keys": args.keys,
        "dim": args.dim,
        "queries": args.queries,
        "k": args.k,
        "cores": cores,
        "queries_per_second": {n: args.queries / statistics.median(s) for n, s in seconds.items()},
        "best_queries_per_second": {n: args.queries / min(s) for n, s in seconds.items()},
        "median_ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "queries_with_other_keys": different,
        "load_average": os.getloadavg()[0],
    }
    rows = [
        [name, args.queries / statistics.median(s), args.queries / min(s)]
        for name, s in seconds.items()
    ]
    print(cli.table(rows, ("", "queries/s, median", "queries/s, best")))
    print(
        f"{args.keys:,} keys of {args.dim}, {args.queries:,} queries, k {args.k}, {cores} cores: "
        f"ratio {result['median_ratio']:.2f} (least {min(ratios):.2f}) over {args.turns} pairs; "
        f"{different} queries with other keys"
    )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if different else 0


def _unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    x = rng.normal(size=(count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _different(theirs: tuple[np.ndarray, ...], ours: tuple[np.ndarray, ...]) -> int:
    """Queries whose two answers differ by more than ties."""
    (their_scores, their_rows), (scores, rows) = theirs, ours
    close = np.abs(their_scores - scores).max(axis=1) < TIE
    same = (np.sort(their_rows, axis=1) == np.sort(rows, axis=1)).all(axis=1)
    last = scores[:, -1]
    tied = [
        bool((np.abs(s[~np.isin(r, other)] - end) < TIE).all())
        for s, r, other, end in zip(scores, rows, their_rows, last, strict=True)
    ]
    return int((~(close & (same | np.array(tied)))).sum())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=131_072, help="default: 131072")
    parser.add_argument("--dim", type=int, default=128, help="default: 128")
    parser.add_argument("--queries", type=int, default=256, help="at once; default: 256")
    parser.add_argument("--k", type=int, default=10, help="default: 10")
    parser.add_argument("--turns", type=int, default=9, help="of each; default: 9")
    parser.add_argument("--json", help="write the result here")
    return parser


if __name__ == "__main__":
    cli.run(main)
