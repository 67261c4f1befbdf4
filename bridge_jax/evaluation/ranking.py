"""Filtered ranks of held-out queries against all nodes, and the metrics computed from them.

A query (head, ?) of a triple type is answered by scoring every node of the tail type. The rank of a
true tail is *filtered*: the head's other known positives, of all splits, do not compete with it,
nor does the head itself if head and tail have the same type. Candidates that tie with the true tail
count for it (optimistic rank), against it (pessimistic rank), or half (realistic rank: the mean of
the two, used for the main metrics).
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Float64, Int, Int32

from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.errors import InputError

# Maps a triple type and local head ids [b] to scores [b, nodes of the tail type]; higher is better.
Scorer = Callable[[TripleType, np.ndarray], jax.Array]

HITS_AT = (1, 3, 10)
CUTOFFS = (10, 50)
DEGREES = (0, 1, 5, 20, 100)
# Rows of the score matrix compared at once: few enough to stay in a CPU core's cache.
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Ranks:
    """Ranks of the queries of a triple type, one entry per query, in the order of the queries.

    Attributes:
      heads: Local head ids, `[q]`.
      tails: Local ids of the true tails, `[q]`.
      optimistic: Filtered ranks from 1, with ties in the true tail's favour, `[q]`.
      pessimistic: Filtered ranks from 1, with ties against it, `[q]`.
      candidates: Number of candidates that competed, including the true tail, `[q]`.
    """

    heads: Int32[np.ndarray, "q"]
    tails: Int32[np.ndarray, "q"]
    optimistic: Float64[np.ndarray, "q"]
    pessimistic: Float64[np.ndarray, "q"]
    candidates: Int[np.ndarray, "q"]

    def __len__(self) -> int:
        return len(self.heads)

    def __getitem__(self, rows: np.ndarray) -> "Ranks":
        fields = (self.heads, self.tails, self.optimistic, self.pessimistic, self.candidates)
        return Ranks(*(f[rows] for f in fields))

    @property
    def realistic(self) -> Float64[np.ndarray, "q"]:
        """Mean of the optimistic and the pessimistic rank, `[q]`."""
        return np.asarray((self.optimistic + self.pessimistic) / 2)


def pool(ranks: Iterable[Ranks]) -> Ranks:
    """Concatenates the ranks of several triple types, at least one query in all.

    A head of two triple types counts as two heads.
    """
    nonempty = [r for r in ranks if len(r)]
    heads, num_heads = [], 0
    for r in nonempty:
        _, number = np.unique(r.heads, return_inverse=True)
        heads.append((number + num_heads).astype(np.int32))
        num_heads += int(number.max()) + 1
    names = ("tails", "optimistic", "pessimistic", "candidates")
    others = (np.concatenate([getattr(r, name) for r in nonempty]) for name in names)
    return Ranks(np.concatenate(heads), *others)


def rank(
    scorer: Scorer, triple_type: TripleType, queries: Pairs, known: Known, *, block: int = 256
) -> Ranks:
    """Ranks the true tail of every query among all nodes of the tail type.

    Each head is scored once, whatever its number of queries. The true score is read from the same
    matrix as those of the candidates, so that both went through the same arithmetic.

    Args:
      scorer: Model that scores a block of heads against every tail. All blocks have the same size
        (`block`, or fewer if there are few heads; the last one repeats its last head), so that it
        compiles once.
      triple_type: Triple type of the queries.
      queries: The (head, tail) pairs to rank; a head may have several tails.
      known: All known positives of the triple type, which are filtered.
      block: Maximum number of heads scored at a time, default 256. It bounds the memory to a few
        `block x nodes` floats.

    Raises:
      InputError: The scorer returns a NaN, or a matrix of the wrong shape.
    """
    ranks = Ranks(*queries, *(np.zeros(len(queries.heads), d) for d in (float, float, int)))
    if not len(ranks):
        return ranks
    order = np.argsort(queries.heads, kind="stable")
    tails = queries.tails[order]
    heads, num_queries = np.unique(queries.heads, return_counts=True)
    first_query = np.cumsum(num_queries) - num_queries
    size = min(block, _bucket(len(heads), 64))
    starts = np.arange(0, len(heads), size)
    num_excluded = known.indptr[heads + 1] - known.indptr[heads] + num_queries + 1
    # All blocks are padded to the largest one, so that the comparison compiles once.
    max_queries, max_excluded = (
        _bucket(int(np.add.reduceat(count, starts).max())) for count in (num_queries, num_excluded)
    )

    pending: tuple[np.ndarray, np.ndarray, tuple[jax.Array, ...]] | None = None
    for start in starts:
        batch, counts = heads[start : start + size], num_queries[start : start + size]
        in_block = slice(first_query[start], first_query[start] + counts.sum())
        rows, positions = np.repeat(np.arange(len(batch)), counts), order[in_block]
        excluded_rows, excluded_tails = _excluded(triple_type, known, batch, rows, tails[in_block])
        scores = scorer(triple_type, np.pad(batch, (0, size - len(batch)), "edge"))
        _check_shape(scorer, triple_type, scores, size, int(excluded_tails.max()))
        num_nodes = scores.shape[1]
        cells = np.unique(excluded_rows.astype(np.int64) * num_nodes + excluded_tails)
        num_competitors = num_nodes - np.bincount(cells // num_nodes, minlength=len(batch))
        ranks.candidates[positions] = num_competitors[rows] + 1
        counted = _count_above(
            jnp.asarray(scores, jnp.float32),
            _pad(rows, max_queries, 0),
            _pad(tails[in_block], max_queries, 0),
            _pad(excluded_rows, max_excluded, size),
            _pad(excluded_tails, max_excluded, 0),
        )
        # Fetch the previous block while the device works on this one.
        if pending:
            _store(ranks, scorer, triple_type, *pending)
        pending = batch, positions, counted
    if pending:
        _store(ranks, scorer, triple_type, *pending)
    return ranks


def _excluded(
    triple_type: TripleType,
    known: Known,
    heads: np.ndarray,
    query_rows: np.ndarray,
    query_tails: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (row, tail) of the scores that do not compete; repeats are possible.

    These are the known positives, the tails of all queries, and the head itself.
    """
    cells = [known.of(heads), (query_rows, query_tails)]
    if triple_type.head == triple_type.tail:
        cells.append((np.arange(len(heads)), heads))
    rows, tails = (np.concatenate(ids) for ids in zip(*cells, strict=True))
    return rows, tails


@jax.jit
def _count_above(
    scores: Float32[Array, "b n"],
    rows: Int32[Array, "q"],
    tails: Int32[Array, "q"],
    excluded_rows: Int32[Array, "k"],
    excluded_tails: Int32[Array, "k"],
) -> tuple[Int32[Array, "q"], Int32[Array, "q"], Bool[Array, "b"]]:
    """Counts, for each true score, the competitors above it and those not below it; finds NaNs.

    An excluded score becomes NaN, which no comparison counts. Gathering a few rows at a time and
    comparing is 20 times faster on a CPU than gathering all rows, or than sorting on the device.
    """
    true = scores[rows, tails]
    competitors = scores.at[excluded_rows, excluded_tails].set(jnp.nan, mode="drop")

    def count(query: tuple[Array, Array]) -> tuple[Array, Array]:
        row, score = query
        return jnp.sum(competitors[row] > score), jnp.sum(competitors[row] >= score)

    above, not_below = jax.lax.map(count, (rows, true), batch_size=_ROWS_AT_ONCE)
    return above, not_below, jnp.isnan(scores).any(axis=1)


def _store(
    ranks: Ranks,
    scorer: Scorer,
    triple_type: TripleType,
    heads: np.ndarray,
    positions: np.ndarray,
    counted: tuple[jax.Array, ...],
) -> None:
    """Fetches the counts of a block from the device and writes them into `ranks`."""
    above, not_below, has_nan = map(np.asarray, counted)
    if has_nan[: len(heads)].any():
        raise InputError(
            f"model {scorer_name(scorer)!r} gives NaN scores for {triple_type} "
            f"(head {heads[has_nan[: len(heads)]][0]}); its parameters are not finite"
        )
    ranks.optimistic[positions] = above[: len(positions)] + 1
    ranks.pessimistic[positions] = not_below[: len(positions)] + 1


def scorer_name(scorer: Scorer) -> str:
    """Returns a scorer's `name`, or its Python name if it has none."""
    name = getattr(scorer, "name", None) or getattr(scorer, "__name__", type(scorer).__name__)
    return str(name)


def _check_shape(
    scorer: Scorer, triple_type: TripleType, scores: jax.Array, size: int, max_tail: int
) -> None:
    # JAX clamps an index that is out of range: without this check a short matrix gives wrong ranks.
    if scores.ndim != 2 or scores.shape[0] != size or scores.shape[1] <= max_tail:
        raise InputError(
            f"model {scorer_name(scorer)!r} gives scores of shape {scores.shape} for "
            f"{triple_type}; expected {size} heads by every {triple_type.tail} (there is a local "
            f"id {max_tail})"
        )


def _bucket(n: int, smallest: int = 1024) -> int:
    """Rounds n up to one of a few sizes: few sizes, few compilations."""
    size = smallest
    while size < n:
        size *= 4
    return size


def _pad(ids: np.ndarray, length: int, value: int) -> np.ndarray:
    return np.pad(ids.astype(np.int32), (0, length - len(ids)), constant_values=value)


def has_choice(ranks: Ranks) -> bool:
    """Returns whether any query has at least two candidates; if none has, every rank is 1."""
    return bool((ranks.candidates > 1).any())


def chance_mrr(candidates: Int[np.ndarray, "q"]) -> float:
    """Computes the expected MRR of a random order: the mean of H(n)/n for n candidates."""
    harmonic = np.cumsum(1 / np.arange(1, candidates.max() + 1))
    return float(np.mean(harmonic[candidates - 1] / candidates))


def metrics(ranks: Ranks) -> dict[str, float]:
    """Computes the metrics of one triple type, or of several that were pooled.

    With r the realistic filtered rank of a query and n its number of candidates:

    - `mrr`, `hits@k`, `mean_rank`: means over queries of 1/r, r <= k, and r; `mrr_optimistic` and
      `mrr_pessimistic`: the MRR of the other two ranks;
    - `amri` = 1 - (mean r - 1) / (mean (n + 1)/2 - 1), and `adjusted_mrr` = (mrr - c) / (1 - c)
      with c the mean of H(n)/n, the expected 1/r of a random order: 0 is chance and 1 is perfect,
      whatever the number of candidates;
    - `mrr_by_head`: mean over heads of the head's mean 1/r, so that each head counts once;
    - `ndcg@k`, `recall@k`, `precision@k`: means over heads of `list_metrics`.

    Args:
      ranks: Ranks of at least one query.
    """
    r, n = ranks.realistic, ranks.candidates
    mrr, mean_rank = float(np.mean(1 / r)), float(np.mean(r))
    chance_rank = float(np.mean((n + 1) / 2))
    chance = chance_mrr(n)
    _, head = np.unique(ranks.heads, return_inverse=True)
    return {
        "mrr": mrr,
        **{f"hits@{k}": float(np.mean(r <= k)) for k in HITS_AT},
        "mean_rank": mean_rank,
        "amri": 1 - (mean_rank - 1) / (chance_rank - 1) if chance_rank > 1 else np.nan,
        "adjusted_mrr": (mrr - chance) / (1 - chance) if chance < 1 else np.nan,
        "mrr_optimistic": float(np.mean(1 / ranks.optimistic)),
        "mrr_pessimistic": float(np.mean(1 / ranks.pessimistic)),
        "mrr_by_head": float(np.mean(np.bincount(head, 1 / r) / np.bincount(head))),
        **{name: float(values.mean()) for name, values in list_metrics(ranks).items()},
    }


def list_metrics(ranks: Ranks) -> dict[str, Float64[np.ndarray, "heads"]]:
    """Computes nDCG, recall and precision of each head's ranked list, at each k of `CUTOFFS`.

    The list holds all true tails of the head in this split and all their competitors; known
    positives of other splits are left out, as in the filtered ranks. The position of a true tail is
    its filtered rank plus the number of the head's true tails that rank above it. (Tied true tails
    take successive positions from the middle of their tie.)

    Args:
      ranks: Ranks of at least one query; the tails of a head are distinct.

    Returns:
      One value per distinct head, in ascending order, for each metric.
    """
    order = np.lexsort((ranks.realistic, ranks.heads))
    _, first, head, num_true = np.unique(
        ranks.heads[order], return_index=True, return_inverse=True, return_counts=True
    )
    num_true_above = np.arange(len(order)) - first[head]
    position = ranks.realistic[order] + num_true_above
    values: dict[str, np.ndarray] = {}
    for k in CUTOFFS:
        within = position <= k
        num_hits = np.bincount(head, within)
        gain = np.bincount(head, within / np.log2(position + 1))
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(num_true, k) - 1]
        values |= {
            f"ndcg@{k}": gain / ideal,
            f"recall@{k}": num_hits / num_true,
            f"precision@{k}": num_hits / k,
        }
    return values


def mrr_by_degree(ranks: Ranks, degree: Int[np.ndarray, "nodes"]) -> dict[str, tuple[int, float]]:
    """Computes the MRR of the queries by the number of training facts of their true tail.

    Args:
      ranks: Ranks of one triple type.
      degree: Training facts of each tail in that triple type.

    Returns:
      Number of queries and MRR (NaN without a query) by band: `0`, `1-4`, …
    """
    band = np.searchsorted(DEGREES, degree[ranks.tails], side="right") - 1
    values = {}
    for i, low in enumerate(DEGREES):
        high = DEGREES[i + 1] - 1 if i + 1 < len(DEGREES) else None
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        reciprocal = 1 / ranks.realistic[band == i]
        mrr = float(reciprocal.mean()) if len(reciprocal) else np.nan
        values[name] = len(reciprocal), mrr
    return values


def bootstrap_mrr(
    models: Sequence[Ranks], name: str, *, draws: int = 1000, seed: int = 0
) -> Float64[np.ndarray, "draws models"]:
    """Computes the MRR of several models on resampled heads of one triple type.

    The queries of one head are not independent, so whole heads are drawn, with replacement. All
    models see the same heads in a draw: the difference of two columns is a paired difference.

    Args:
      models: Ranks of the same queries, one entry per model.
      name: Name of the triple type; with the seed it determines the draws.
      draws: Number of draws, default 1000.
      seed: Random seed, default 0.

    Raises:
      InputError: The models answered different queries.
    """
    if any(
        not (np.array_equal(m.heads, models[0].heads) and np.array_equal(m.tails, models[0].tails))
        for m in models
    ):
        raise InputError(f"the models compared on {name} answered different queries")
    _, head = np.unique(models[0].heads, return_inverse=True)
    num_queries = np.bincount(head)
    total = np.stack([np.bincount(head, 1 / m.realistic) for m in models], axis=1)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    uniform = np.full(len(num_queries), 1 / len(num_queries))
    # A few million weights at a time.
    step = max(1, 2**22 // len(num_queries))
    weights = (
        rng.multinomial(len(num_queries), uniform, size=min(step, draws - start)).astype(np.float64)
        for start in range(0, draws, step)
    )
    return np.concatenate([(w @ total) / (w @ num_queries)[:, None] for w in weights])


def confidence_interval(draws: Float64[np.ndarray, "draws"]) -> tuple[float, float]:
    """Returns the central 95 % of bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def paired_p_value(differences: Float64[np.ndarray, "draws"]) -> float:
    """Returns the two-sided bootstrap p-value of a zero difference; at least 2/(draws + 1).

    Args:
      differences: Paired differences, one per draw.
    """
    smaller = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (smaller + 1) / (len(differences) + 1)))
