"""Compares exact search in this package to FAISS's flat index on the same cores.

    python -m benchmarks.retrieve --keys 131072 --dim 128 --queries 256 --k 10

`bridge_jax.retrieval.exact_index.ExactIndex` and `faiss.IndexFlatIP` search random unit vectors.
They take turns, and the order of the two changes with every turn, so that other load on the machine
slows both alike. Both are exact: for each query the two must return the same keys, apart from keys
with equal scores after rounding. Prints the rates and the ratio of each pair of turns.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

TOLERANCE = 1e-5  # of scores that count as equal


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.retrieval.exact_index import ExactIndex

    try:
        import faiss
    except ImportError as e:
        raise InputError("this benchmark needs FAISS: pip install 'bridge_jax[faiss]'") from e
    cores = len(os.sched_getaffinity(0))
    faiss.omp_set_num_threads(cores)
    rng = np.random.default_rng(0)
    keys, queries = (_random_unit_vectors(rng, n, args.dim) for n in (args.keys, args.queries))
    flat = faiss.IndexFlatIP(args.dim)
    flat.add(keys)
    index = ExactIndex(keys)
    searches = {
        "faiss": lambda: flat.search(queries, args.k),
        "bridge_jax": lambda: index.search(queries, args.k),
    }
    faiss_result, result = (search() for search in searches.values())  # warms both up
    num_different = _count_different(faiss_result, result)

    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(args.turns):
        for name in sorted(searches, reverse=bool(turn % 2)):
            start = time.perf_counter()
            searches[name]()
            seconds[name].append(time.perf_counter() - start)
    pairs = zip(seconds["faiss"], seconds["bridge_jax"], strict=True)
    ratios = [faiss_seconds / own_seconds for faiss_seconds, own_seconds in pairs]
    median_rate = {n: args.queries / statistics.median(s) for n, s in seconds.items()}
    best_rate = {n: args.queries / min(s) for n, s in seconds.items()}
    rows = [[name, median_rate[name], best_rate[name]] for name in seconds]
    print(text_table(rows, ("", "queries/s, median", "queries/s, best")))
    print(
        f"{args.keys:,} keys of {args.dim}, {args.queries:,} queries, k {args.k}, {cores} cores: "
        f"ratio {statistics.median(ratios):.2f} (least {min(ratios):.2f}) over {args.turns} pairs; "
        f"{num_different} queries with other keys"
    )
    if args.json:
        report = {
            "keys": args.keys,
            "dim": args.dim,
            "queries": args.queries,
            "k": args.k,
            "cores": cores,
            "queries_per_second": median_rate,
            "best_queries_per_second": best_rate,
            "median_ratio": statistics.median(ratios),
            "least_ratio": min(ratios),
            "queries_with_other_keys": num_different,
            "load_average": os.getloadavg()[0],
        }
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if num_different else 0


def _random_unit_vectors(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    x = rng.normal(size=(count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _count_different(expected: tuple[np.ndarray, ...], actual: tuple[np.ndarray, ...]) -> int:
    """Returns the number of queries whose two results differ by more than ties."""
    (expected_scores, expected_rows), (scores, rows) = expected, actual
    close = np.abs(expected_scores - scores).max(axis=1) < TOLERANCE
    same = (np.sort(expected_rows, axis=1) == np.sort(rows, axis=1)).all(axis=1)
    # Keys that only one of the two returns must tie with the last.
    tied = [
        bool((np.abs(s[~np.isin(r, other)] - s[-1]) < TOLERANCE).all())
        for s, r, other in zip(scores, rows, expected_rows, strict=True)
    ]
    return int((~(close & (same | np.array(tied)))).sum())


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.retrieve", __doc__)
    parser.add_argument("--keys", type=int, default=131_072, help="default: 131072")
    parser.add_argument("--dim", type=int, default=128, help="default: 128")
    parser.add_argument("--queries", type=int, default=256, help="queries at once; default: 256")
    parser.add_argument("--k", type=int, default=10, help="keys per query; default: 10")
    parser.add_argument("--turns", type=int, default=9, help="turns of each; default: 9")
    parser.add_argument("--json", help="JSON file to write; default: none")
    return parser


if __name__ == "__main__":
    cli.run(main)
