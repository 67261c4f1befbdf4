"""The evaluation protocol of the BioBridge release: recall and precision of each head's list.

This is what the released code sets out to compute, for one relation and one head type at a time:

- *frequent* tails: those with at least 50 facts, counted over the facts of all splits with this
  relation and head type. Other tails are neither candidates nor answers.
- heads: the held-out heads of the split that have a fact with a frequent tail.
- answers of a head: all its frequent tails, of every split. Nothing is filtered: a training fact
  counts as an answer too (on the released split that is the mirror image of most facts).
- recall@k: the share of the answers among the first k of the head's list; precision@k: the share
  of the k that are answers; means over heads, for k of 1, 2, 3, 4, 5, 10, 20.

The released code does not run: it indexes its input wrongly and compares tensors by identity. This
implementation differs from its intention in two points. If head and tail have the same type, it
lists the held-out heads too, including the head itself; here only frequent tails other than the
head are listed. And candidates that tie are in random order, so that a constant model scores at
chance level.

References:
  github.com/RyanWangZf/BioBridge, eval_bind.py and src/dataset.py.
"""

from collections.abc import Iterable, Mapping
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

MIN_FACTS = 50
CUTOFFS = (1, 2, 3, 4, 5, 10, 20)
Metrics = dict[str, float]


def answers_by_task(
    experiment: Experiment, split: str, min_facts: int = MIN_FACTS
) -> dict[TripleType, Pairs]:
    """Returns the heads of each triple type with their answers, as (head, tail) pairs.

    Args:
      experiment: Dataset and config of the run.
      split: Split of the heads.
      min_facts: Number of facts that make a tail frequent, default 50.

    Raises:
      InputError: No head of the split has a frequent tail.
    """
    answers = {}
    all_facts = experiment.graph.pairs(experiment.graph.facts)
    for triple_type, queries in experiment.queries[split].items():
        facts = all_facts[triple_type]
        frequent = np.bincount(facts.tails, minlength=1) >= min_facts
        keep = frequent[facts.tails] & np.isin(facts.heads, queries.heads)
        if keep.any():
            pairs = np.unique(np.stack([facts.heads[keep], facts.tails[keep]]), axis=1)
            answers[triple_type] = Pairs(pairs[0], pairs[1])
    if not answers:
        raise InputError(
            f"{experiment.manifest.name}: no {split} head has a tail with {min_facts} facts or "
            "more, so the biobridge protocol has no query; use --protocol filtered"
        )
    return answers


def candidate_tails(
    experiment: Experiment, triple_type: TripleType, min_facts: int = MIN_FACTS
) -> Int[np.ndarray, " c"]:
    """Returns the local ids of the frequent tails of a triple type."""
    tails = experiment.graph.pairs(experiment.graph.facts)[triple_type].tails
    return np.flatnonzero(np.bincount(tails, minlength=1) >= min_facts)


def evaluate_task(
    scorer: Scorer,
    triple_type: TripleType,
    answers: Pairs,
    candidates: Int[np.ndarray, " c"],
    block: int = 256,
) -> Metrics:
    """Computes recall and precision of a model on one triple type.

    Args:
      scorer: The model.
      triple_type: Triple type of the answers.
      answers: Frequent tails of each head.
      candidates: Local ids of the tails to list.
      block: Number of heads scored at a time, default 256.

    Returns:
      `recall@k`, `precision@k`, and the numbers of `heads` and `candidates`.
    """
    heads, num_answers = np.unique(answers.heads, return_counts=True)
    # Ties are broken by position, and the positions are random.
    candidates = np.random.default_rng(0).permutation(candidates)
    num_tails = int(max(answers.tails.max(), candidates.max())) + 1
    known = Known.build(answers, int(heads.max()) + 1, num_tails)
    size, k = min(block, len(heads)), min(CUTOFFS[-1], len(candidates))
    blocks = []
    for start in range(0, len(heads), size):
        batch = heads[start : start + size]
        padded = np.pad(batch, (0, size - len(batch)), "edge")
        scores = scorer(triple_type, padded)
        own_ids = padded if triple_type.head == triple_type.tail else None
        best = np.asarray(_top_candidates(scores, jnp.asarray(candidates), own_ids, k))
        blocks.append(_are_known(known, batch, candidates[best[: len(batch)]]))
    is_answer = np.concatenate(blocks)
    num_hits = {k: is_answer[:, :k].sum(axis=1) for k in CUTOFFS}
    return {
        **{f"recall@{k}": float((num_hits[k] / num_answers).mean()) for k in CUTOFFS},
        **{f"precision@{k}": float((num_hits[k] / k).mean()) for k in CUTOFFS},
        "heads": float(len(heads)),
        "candidates": float(len(candidates)),
    }


@partial(jax.jit, static_argnums=3)
def _top_candidates(
    scores: Float32[Array, "b n"],
    candidates: Int[Array, " c"],
    own_ids: Int32[Array, " b"] | None,
    k: int,
) -> Int[Array, "b k"]:
    """Returns the positions of each row's best candidates, best first.

    With `own_ids`, each row's own node is listed last.
    """
    candidate_scores = scores[:, candidates]
    if own_ids is not None:
        is_self = candidates == own_ids[:, None]
        candidate_scores = jnp.where(is_self, -jnp.inf, candidate_scores)
    return jax.lax.top_k(candidate_scores, k)[1]


def _are_known(
    known: Known, heads: Int[np.ndarray, " b"], tails: Int[np.ndarray, "b k"]
) -> Bool[np.ndarray, "b k"]:
    rows = np.repeat(heads, tails.shape[1]).astype(np.int32)
    return known.contains(rows, tails.ravel().astype(np.int32)).reshape(tails.shape)


def evaluate_scorers(
    scorers: Iterable[tuple[str, Scorer]], experiment: Experiment, split: str
) -> dict[str, dict[str, Metrics]]:
    """Evaluates several models.

    Args:
      scorers: Name of each model and the model.
      experiment: Dataset and config of the run.
      split: `validation` or `test`.

    Returns:
      Metrics by triple type (as text), then by model.

    Raises:
      InputError: No head of the split has a frequent tail.
    """
    answers = answers_by_task(experiment, split)
    candidates = {triple_type: candidate_tails(experiment, triple_type) for triple_type in answers}
    results: dict[str, dict[str, Metrics]] = {str(triple_type): {} for triple_type in answers}
    for name, scorer in scorers:
        for triple_type, pairs in answers.items():
            block = experiment.config.evaluate.block
            results[str(triple_type)][name] = evaluate_task(
                scorer, triple_type, pairs, candidates[triple_type], block
            )
    return results


def as_text(results: Mapping[str, Mapping[str, Metrics]]) -> str:
    """Formats the recall@10 of every task and model, and the means over tasks."""
    models = list(next(iter(results.values())))
    by_task = [
        [task, int(rows[models[0]]["heads"]), int(rows[models[0]]["candidates"])]
        + [rows[m]["recall@10"] for m in models]
        for task, rows in results.items()
    ]
    columns = [f"{metric}@{k}" for metric in ("recall", "precision") for k in (1, 5, 10, 20)]
    means: list[list[Any]] = [
        [m, *(float(np.mean([rows[m][c] for rows in results.values()])) for c in columns)]
        for m in models
    ]
    return "\n\n".join(
        [
            text_table(by_task, ["recall@10 by task", "heads", "candidates", *models]),
            text_table(means, ["mean over tasks", *columns]),
        ]
    )


def write(
    results: Mapping[str, Mapping[str, Metrics]], about: Mapping[str, Any], folder: str | Path
) -> None:
    """Writes `biobridge.json`.

    Args:
      results: Results of `evaluate_scorers`.
      about: Metadata of the run.
      folder: Folder to write; created if missing.
    """
    write_json(Path(folder) / "biobridge.json", {"about": dict(about), "tasks": results})
