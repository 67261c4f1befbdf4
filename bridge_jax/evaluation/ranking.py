"""Filtered ranks of held-out queries against all nodes, and the figures made of them.

A query (head, ?) of a triple type is answered by scoring every node of the tail type. The *rank*
of a true tail is filtered: the head's other known positives, of every split, do not compete with
it, nor does the head itself where head and tail are of one type (a fact has two ends). Candidates
that tie with the true tail are counted for it (optimistic), against it (pessimistic), or half
(realistic: the mean of both ranks, and the headline).
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Float64, Int, Int32

from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.errors import InputError

# Triple type and local head ids [b] to scores [b, nodes of the tail type]; higher is better.
Scorer = Callable[[TripleType, np.ndarray], jax.Array]

HITS = (1, 3, 10)
TOP = (10, 50)
DEGREES = (0, 1, 5, 20, 100)
# Rows of the score matrix compared at once: few enough to stay in a CPU core's cache.
_LANES = 32


@dataclass(frozen=True)
class Ranks:
    """One entry for each query of a triple type, in the order of the queries.

    Attributes:
      heads: `[q]` local head ids.
      tails: `[q]` local ids of the true tails.
      optimistic: `[q]` 1-based filtered rank, ties in the true tail's favour.
      pessimistic: `[q]` the same, ties against it.
      candidates: `[q]` candidates that competed, the true tail included.
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
        """`[q]` mean of the optimistic and the pessimistic rank."""
        return np.asarray((self.optimistic + self.pessimistic) / 2)


def join(parts: Iterable[Ranks]) -> Ranks:
    """Pool triple types, one query at least; a head of two triple types becomes two heads."""
    parts = [p for p in parts if len(p)]
    heads, seen = [], 0
    for part in parts:
        _, number = np.unique(part.heads, return_inverse=True)
        heads.append((number + seen).astype(np.int32))
        seen += int(number.max()) + 1
    names = ("tails", "optimistic", "pessimistic", "candidates")
    rest = (np.concatenate([getattr(p, n) for p in parts]) for n in names)
    return Ranks(np.concatenate(heads), *rest)


def rank(
    scorer: Scorer, triple_type: TripleType, queries: Pairs, known: Known, *, block: int = 256
) -> Ranks:
    """Rank the true tail of every query among all nodes of the tail type.

    Each head is scored once, however many tails are asked of it, and the true score is read from
    the same matrix as the candidates', so that both went through the same arithmetic.

    Args:
      scorer: scores a block of heads against every tail. It is called with blocks of one size
        (`block`, or less for few heads; the last one repeats its last head), so that it
        compiles once.
      triple_type: the triple type.
      queries: the (head, tail) pairs to rank; several tails of a head may be asked.
      known: every known positive of the triple type, of all splits.
      block: most heads scored at a time; bounds the memory at a few `block x nodes` floats.

    Raises:
      InputError: the scorer gives a NaN, or a matrix of the wrong shape.
    """
    out = Ranks(*queries, *(np.zeros(len(queries.heads), d) for d in (float, float, int)))
    if not len(out):
        return out
    order = np.argsort(queries.heads, kind="stable")
    tails = queries.tails[order]
    heads, asked_of = np.unique(queries.heads, return_counts=True)
    first = np.cumsum(asked_of) - asked_of
    size = min(block, _bucket(len(heads), 64))
    starts = np.arange(0, len(heads), size)
    hidden_of = known.indptr[heads + 1] - known.indptr[heads] + asked_of + 1
    most_asked, most_hidden = (
        _bucket(int(np.add.reduceat(count, starts).max())) for count in (asked_of, hidden_of)
    )

    waiting: tuple[Any, ...] = ()
    for start in starts:
        rows, count = heads[start : start + size], asked_of[start : start + size]
        part = slice(first[start], first[start] + count.sum())
        asked = np.repeat(np.arange(len(rows)), count)
        hidden = [known.of(rows), (asked, tails[part])]
        if triple_type.head == triple_type.tail:
            hidden.append((np.arange(len(rows)), rows))
        hidden_rows, hidden_tails = (np.concatenate(ids) for ids in zip(*hidden, strict=True))
        scores = scorer(triple_type, np.pad(rows, (0, size - len(rows)), "edge"))
        _check(scorer, triple_type, scores, size, int(hidden_tails.max()))
        nodes = scores.shape[1]
        cells = np.unique(hidden_rows.astype(np.int64) * nodes + hidden_tails)
        rivals = nodes - np.bincount(cells // nodes, minlength=len(rows))
        out.candidates[order[part]] = rivals[asked] + 1
        result = _compare(
            jnp.asarray(scores, jnp.float32),
            _pad(asked, most_asked, 0),
            _pad(tails[part], most_asked, 0),
            _pad(hidden_rows, most_hidden, size),
            _pad(hidden_tails, most_hidden, 0),
        )
        # The device works on this block while the host takes in the one before.
        if waiting:
            _collect(out, *waiting)
        waiting = (scorer, triple_type, rows, order[part], result)
    _collect(out, *waiting)
    return out


@jax.jit
def _compare(
    scores: Float32[Array, "b n"],
    rows: Int32[Array, "q"],
    tails: Int32[Array, "q"],
    hidden_rows: Int32[Array, "k"],
    hidden_tails: Int32[Array, "k"],
) -> tuple[Int32[Array, "q"], Int32[Array, "q"], Bool[Array, "b"]]:
    """Count, for each true score, the rivals above it and those not below it; find NaNs.

    A hidden score becomes NaN, which no comparison counts. Gathering a few rows at a time and
    comparing is 20 times faster on a CPU than gathering all rows, or than sorting on the device.
    """
    true = scores[rows, tails]
    rivals = scores.at[hidden_rows, hidden_tails].set(jnp.nan, mode="drop")

    def count(query: tuple[Array, Array]) -> tuple[Array, Array]:
        row, score = query
        return jnp.sum(rivals[row] > score), jnp.sum(rivals[row] >= score)

    above, not_below = jax.lax.map(count, (rows, true), batch_size=_LANES)
    return above, not_below, jnp.isnan(scores).any(axis=1)


def _collect(
    out: Ranks,
    scorer: Scorer,
    triple_type: TripleType,
    heads: np.ndarray,
    to: np.ndarray,
    result: tuple[jax.Array, ...],
) -> None:
    above, not_below, broken = map(np.asarray, result)
    if broken[: len(heads)].any():
        raise InputError(
            f"model {name_of(scorer)!r} gives NaN scores for {triple_type} "
            f"(head {heads[broken[: len(heads)]][0]}); its parameters are not finite"
        )
    out.optimistic[to] = above[: len(to)] + 1
    out.pessimistic[to] = not_below[: len(to)] + 1


def name_of(scorer: Scorer) -> str:
    """What messages and tables call a scorer: its `name`, or else its Python name."""
    named = getattr(scorer, "name", None) or getattr(scorer, "__name__", type(scorer).__name__)
    return str(named)


def _check(
    scorer: Scorer, triple_type: TripleType, scores: jax.Array, size: int, tail: int
) -> None:
    # JAX clamps an index that is out of range: without this a short matrix would rank quietly.
    if scores.ndim != 2 or scores.shape[0] != size or scores.shape[1] <= tail:
        raise InputError(
            f"model {name_of(scorer)!r} gives scores of shape {scores.shape} for {triple_type}; "
            f"expected {size} heads by every {triple_type.tail} (there is a local id {tail})"
        )


def _bucket(n: int, least: int = 1024) -> int:
    """The first of a few sizes that holds n: few sizes, few compilations."""
    size = least
    while size < n:
        size *= 4
    return size


def _pad(ids: np.ndarray, length: int, fill: int) -> np.ndarray:
    return np.pad(ids.astype(np.int32), (0, length - len(ids)), constant_values=fill)


def chance_mrr(candidates: Int[np.ndarray, "q"]) -> float:
    """MRR of a random order: the mean of H(n) / n over queries with n candidates."""
    harmonic = np.cumsum(1 / np.arange(1, candidates.max() + 1))
    return float(np.mean(harmonic[candidates - 1] / candidates))


def metrics(ranks: Ranks) -> dict[str, float]:
    """Figures of one triple type (or of several, pooled by `join`).

    With r the realistic filtered rank of a query and n its candidates:

    - `mrr`, `hits@k`, `mean_rank`: means over queries of 1/r, r <= k, and r; `mrr_optimistic` and
      `mrr_pessimistic` the same as `mrr` with the other two ranks;
    - `amri` = 1 - (mean r - 1) / (mean (n + 1)/2 - 1), and `adjusted_mrr` = (mrr - c) / (1 - c)
      with c the mean of H(n)/n, the expected 1/r of a random order: 0 is chance and 1 is perfect
      whatever the number of candidates;
    - `mrr_by_head`: mean over heads of the head's mean 1/r, so that a head counts once;
    - `ndcg@k`, `recall@k`, `precision@k`: means over heads of `top_of_list`.

    Args:
      ranks: at least one query.
    """
    r, n = ranks.realistic, ranks.candidates
    mrr, mean_rank = float(np.mean(1 / r)), float(np.mean(r))
    chance_rank = float(np.mean((n + 1) / 2))
    chance = chance_mrr(n)
    _, head = np.unique(ranks.heads, return_inverse=True)
    return {
        "mrr": mrr,
        **{f"hits@{k}": float(np.mean(r <= k)) for k in HITS},
        "mean_rank": mean_rank,
        "amri": 1 - (mean_rank - 1) / (chance_rank - 1) if chance_rank > 1 else np.nan,
        "adjusted_mrr": (mrr - chance) / (1 - chance) if chance < 1 else np.nan,
        "mrr_optimistic": float(np.mean(1 / ranks.optimistic)),
        "mrr_pessimistic": float(np.mean(1 / ranks.pessimistic)),
        "mrr_by_head": float(np.mean(np.bincount(head, 1 / r) / np.bincount(head))),
        **{name: float(values.mean()) for name, values in top_of_list(ranks).items()},
    }


def top_of_list(ranks: Ranks) -> dict[str, Float64[np.ndarray, "heads"]]:
    """nDCG, recall and precision of each head's list, cut at each k of `TOP`.

    The list holds all of the head's true tails of this split and every rival; known positives of
    other splits stay left out, as in the filtered ranks. A true tail's position in it is its
    filtered rank plus the head's true tails of this split that rank above it. (Tied true tails
    follow one another from the middle of their tie.)

    Args:
      ranks: at least one query; the tails of a head are distinct.

    Returns:
      For each metric one value for each distinct head, ascending.
    """
    order = np.lexsort((ranks.realistic, ranks.heads))
    _, first, head, count = np.unique(
        ranks.heads[order], return_index=True, return_inverse=True, return_counts=True
    )
    above = np.arange(len(order)) - first[head]
    position = ranks.realistic[order] + above
    out: dict[str, np.ndarray] = {}
    for k in TOP:
        within = position <= k
        found = np.bincount(head, within)
        gain = np.bincount(head, within / np.log2(position + 1))
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(count, k) - 1]
        out |= {
            f"ndcg@{k}": gain / ideal,
            f"recall@{k}": found / count,
            f"precision@{k}": found / k,
        }
    return out


def by_degree(ranks: Ranks, degree: Int[np.ndarray, "nodes"]) -> dict[str, tuple[int, float]]:
    """MRR of the queries by how often training shows their true tail.

    Args:
      ranks: one triple type.
      degree: training facts of each tail in that triple type.

    Returns:
      For each band (`0`, `1-4`, ...) the number of queries and their MRR, NaN without a query.
    """
    band = np.searchsorted(DEGREES, degree[ranks.tails], side="right") - 1
    out = {}
    for i, low in enumerate(DEGREES):
        high = DEGREES[i + 1] - 1 if i + 1 < len(DEGREES) else None
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        values = 1 / ranks.realistic[band == i]
        out[name] = len(values), float(values.mean()) if len(values) else np.nan
    return out


def bootstrap(
    models: Sequence[Ranks], name: str, *, draws: int = 1000, seed: int = 0
) -> Float64[np.ndarray, "draws models"]:
    """MRR of several models on resampled heads of one triple type.

    The queries of one head are not independent, so whole heads are drawn, with replacement. All
    models see the same heads in a draw: the difference of two columns is a paired difference.

    Args:
      models: ranks of the same queries.
      name: the triple type; with the seed it fixes the draws.
      draws: how many times the heads are drawn.
      seed: the random seed.

    Raises:
      InputError: the models answered different queries.
    """
    if any(
        not (np.array_equal(m.heads, models[0].heads) and np.array_equal(m.tails, models[0].tails))
        for m in models
    ):
        raise InputError(f"the models compared on {name} answered different queries")
    _, head = np.unique(models[0].heads, return_inverse=True)
    count = np.bincount(head)
    total = np.stack([np.bincount(head, 1 / m.realistic) for m in models], axis=1)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    even = np.full(len(count), 1 / len(count))
    # A few million weights at a time.
    step = max(1, 2**22 // len(count))
    parts = [
        rng.multinomial(len(count), even, size=min(step, draws - start)).astype(np.float64)
        for start in range(0, draws, step)
    ]
    return np.concatenate([(w @ total) / (w @ count)[:, None] for w in parts])


def interval(draws: Float64[np.ndarray, "draws"]) -> tuple[float, float]:
    """The central 95 % of bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def two_sided(differences: Float64[np.ndarray, "draws"]) -> float:
    """Two-sided bootstrap p-value of a paired difference being zero; at least 2/(draws + 1)."""
    smaller = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (smaller + 1) / (len(differences) + 1)))
