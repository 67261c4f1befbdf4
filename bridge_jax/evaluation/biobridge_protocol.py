"""The evaluation protocol of the BioBridge release: recall and precision of each head's list.

What the released code sets out to compute, for one relation and one head type at a time:

- *frequent* tails: those that at least 50 facts name, counted over the facts of all splits with
  this relation and head type. Other tails are neither candidates nor answers.
- heads: the held-out heads of the split with a fact that names a frequent tail.
- answers of a head: all its frequent tails, of every split. Nothing is filtered: what training
  showed counts as an answer too (on the released split that is the mirror image of most facts).
- recall@k: the share of the answers among the first k of the head's list; precision@k: the share
  of the k that are answers; means over heads, for k of 1, 2, 3, 4, 5, 10, 20.

The released code does not run: it indexes its input wrongly and compares tensors by identity. Two
things differ from what it would do. Where head and tail are of one type it lists the held-out heads
too, the head itself among them; here only frequent tails other than the head are listed. And
candidates that tie stand in a random order, so that a model that says nothing gets what chance
gives.

Source: github.com/RyanWangZf/BioBridge, eval_bind.py and src/dataset.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int32

from bridge_jax.data.files import write_json
from bridge_jax.data.graph import Known, Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.formatting import text_table

FREQUENT = 50
CUTS = (1, 2, 3, 4, 5, 10, 20)
Figures = dict[str, float]


def tasks(experiment: Experiment, split: str, frequent: int = FREQUENT) -> dict[TripleType, Pairs]:
    """The heads that are asked, and their answers.

    Args:
      setup: of the run.
      split: whose heads.
      frequent: facts that a tail must have.

    Raises:
      InputError: no head is left.
    """
    out = {}
    every = experiment.graph.pairs(experiment.graph.facts)
    for triple_type, asked in experiment.queries[split].items():
        facts = every[triple_type]
        often = np.bincount(facts.tails, minlength=1) >= frequent
        keep = often[facts.tails] & np.isin(facts.heads, asked.heads)
        if keep.any():
            pairs = np.unique(np.stack([facts.heads[keep], facts.tails[keep]]), axis=1)
            out[triple_type] = Pairs(pairs[0], pairs[1])
    if not out:
        raise InputError(
            f"{experiment.manifest.name}: no {split} head has a tail with {frequent} facts or more; the "
            "biobridge protocol has nothing to ask"
        )
    return out


def candidates(
    experiment: Experiment, triple_type: TripleType, frequent: int = FREQUENT
) -> Int[np.ndarray, " c"]:
    """Local ids of the frequent tails of a triple type."""
    tails = experiment.graph.pairs(experiment.graph.facts)[triple_type].tails
    return np.flatnonzero(np.bincount(tails, minlength=1) >= frequent)


def ask(
    scorer: Scorer,
    triple_type: TripleType,
    answers: Pairs,
    listed: Int[np.ndarray, " c"],
    block: int = 256,
) -> Figures:
    """Recall and precision of a model on one triple type.

    Args:
      scorer: the model.
      triple_type: the triple type.
      answers: of each head that is asked, frequent tails alone.
      listed: the candidates.
      block: heads scored at a time.

    Returns:
      `recall@k` and `precision@k`, `heads` and `candidates`.
    """
    heads, counts = np.unique(answers.heads, return_counts=True)
    # Ties are broken by place, and the places are random.
    listed = np.random.default_rng(0).permutation(listed)
    known = Known.build(
        answers, int(heads.max()) + 1, int(max(answers.tails.max(), listed.max())) + 1
    )
    hits = []
    size = min(block, len(heads))
    for start in range(0, len(heads), size):
        rows = heads[start : start + size]
        scores = scorer(triple_type, np.pad(rows, (0, size - len(rows)), "edge"))
        itself = (
            np.pad(rows, (0, size - len(rows)), "edge")
            if triple_type.head == triple_type.tail
            else None
        )
        first = np.asarray(_first(scores, jnp.asarray(listed), itself, min(CUTS[-1], len(listed))))
        hits.append(_are_known(known, rows, listed[first[: len(rows)]]))
    hit = np.concatenate(hits)
    found = {k: hit[:, :k].sum(axis=1) for k in CUTS}
    return {
        **{f"recall@{k}": float((found[k] / counts).mean()) for k in CUTS},
        **{f"precision@{k}": float((found[k] / k).mean()) for k in CUTS},
        "heads": float(len(heads)),
        "candidates": float(len(listed)),
    }


@partial(jax.jit, static_argnums=3)
def _first(
    scores: Float32[Array, "b n"],
    listed: Int[Array, " c"],
    itself: Int32[Array, " b"] | None,
    k: int,
) -> Int[Array, "b k"]:
    """Places in `listed` of each row's best candidates, the best first."""
    of_listed = scores[:, listed]
    if itself is not None:
        of_listed = jnp.where(listed == itself[:, None], -jnp.inf, of_listed)
    return jax.lax.top_k(of_listed, k)[1]


def _are_known(
    known: Known, heads: Int[np.ndarray, " b"], tails: Int[np.ndarray, "b k"]
) -> Bool[np.ndarray, "b k"]:
    rows = np.repeat(heads, tails.shape[1]).astype(np.int32)
    return known.contains(rows, tails.ravel().astype(np.int32)).reshape(tails.shape)


def compare(
    models: Iterator[tuple[str, Scorer]], experiment: Experiment, split: str
) -> dict[str, dict[str, Figures]]:
    """Figures of several models: by task (as text), then model."""
    asked = tasks(experiment, split)
    out: dict[str, dict[str, Figures]] = {str(triple_type): {} for triple_type in asked}
    listed = {triple_type: candidates(experiment, triple_type) for triple_type in asked}
    for name, scorer in models:
        for triple_type, answers in asked.items():
            block = experiment.config.evaluate.block
            out[str(triple_type)][name] = ask(
                scorer, triple_type, answers, listed[triple_type], block
            )
    return out


def as_text(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """Recall@10 of every task and model, and the means over tasks."""
    models = list(next(iter(found.values())))
    by_task = [
        [task, int(rows[models[0]]["heads"]), int(rows[models[0]]["candidates"])]
        + [rows[m]["recall@10"] for m in models]
        for task, rows in found.items()
    ]
    cuts = [f"{figure}@{k}" for figure in ("recall", "precision") for k in (1, 5, 10, 20)]
    means: list[list[Any]] = [
        [m, *(float(np.mean([rows[m][c] for rows in found.values()])) for c in cuts)]
        for m in models
    ]
    return "\n\n".join(
        [
            text_table(by_task, ["recall@10 by task", "heads", "candidates", *models]),
            text_table(means, ["mean over tasks", *cuts]),
        ]
    )


def write(
    found: Mapping[str, Mapping[str, Figures]], about: Mapping[str, Any], folder: str | Path
) -> None:
    """Write `biobridge.json`."""
    write_json(Path(folder) / "biobridge.json", {"about": dict(about), "tasks": found})
