"""Path questions: relations that were never trained end to end, answered by composing bridges.

    p(t | h, r1, r2) = sum over the m best intermediate nodes n of  p(n | h, r1) p(t | n, r2)

A path such as `drug -[target]-> gene/protein -[associated with]-> disease` may have any number of
steps. The sum over the m kept nodes is exact; their probabilities are scaled to sum to 1.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table
from bridge_jax.models.fusion import AnswerScorer
from bridge_jax.retrieval.node_names import NodeIndex
from bridge_jax.retrieval.results import format_probability
from bridge_jax.retrieval.retriever import Retriever

NUM_INTERMEDIATE = 100  # nodes that are followed after each step
MAX_VIA = 3  # nodes named in an answer
_BLOCK = 64  # intermediate nodes scored at a time
_STEP = re.compile(r"\s*-\[([^\[\]]*)\]->\s*")


class PathAnswer(NamedTuple):
    """One answer to a path question.

    Attributes:
      query: Id of the start, or `embedding 0`.
      rank: Rank among the answers, from 1.
      id: Id of the end node.
      name: Its name.
      probability: Its probability among all nodes of its type.
      percentile: Share of the candidates that do not rank before it, in percent.
      via: Id, name and share of the probability of the best nodes that the path leads over.
    """

    query: str
    rank: int
    id: str
    name: str
    probability: float
    percentile: float
    via: list[tuple[str, str, float]]


class PathDistribution(NamedTuple):
    """Probabilities of the end nodes of a path, and how they came about.

    Attributes:
      probability: Probability of every node of the last type, `[nodes]`.
      via: Rows of the kept nodes of the last intermediate type, best first, `[m]`.
      flow: Probability that each end node gets over each of `via`, `[m, nodes]`.
    """

    probability: Float[np.ndarray, " nodes"]
    via: Int[np.ndarray, " m"]
    flow: Float[np.ndarray, "m nodes"]


def parse_path(
    text: str, find_triple_type: Callable[[str, str | None, str], TripleType]
) -> list[TripleType]:
    """Parses the text of a path, e.g. `drug -[target]-> gene/protein -[]-> disease`.

    Args:
      text: Node types, joined by `-[relation]->`; the relation may be empty if only one leads from
        the one type to the other.
      find_triple_type: Function that checks the names of a step: `Predictor.triple_type`.

    Returns:
      The steps, at least one.

    Raises:
      InputError: The text is not a path, or a name is unknown.
    """
    parts = [part.strip() for part in _STEP.split(text)]
    if len(parts) < 3 or not all(parts[::2]):
        raise InputError(
            f"--path {text!r}: write node types joined by relations, e.g. "
            "'drug -[target]-> gene/protein -[associated with]-> disease'"
        )
    return [
        find_triple_type(parts[i], parts[i + 1] or None, parts[i + 2])
        for i in range(0, len(parts) - 2, 2)
    ]


def compose(
    scorer: AnswerScorer,
    first_scores: Float[np.ndarray, " nodes"],
    steps: Sequence[TripleType],
    num_intermediate: int = NUM_INTERMEDIATE,
    excluded: int | None = None,
) -> PathDistribution:
    """Follows a path from the scores of its first step.

    Args:
      scorer: Model whose scores are logits or log-probabilities.
      first_scores: Scores of every node after the first step.
      steps: Triple types of the path, at least two.
      num_intermediate: Number of nodes that are followed after each step.
      excluded: Row of the start, which is no intermediate node of its own type.

    Raises:
      InputError: `num_intermediate` is below 1.
    """
    if num_intermediate < 1:
        raise InputError(f"intermediate nodes {num_intermediate}: must be at least 1")
    probability = np.asarray(jax.nn.softmax(first_scores), np.float64)
    start_type = steps[0].head
    via, flow = np.zeros(0, np.int32), np.zeros((0, len(probability)))
    for step in steps[1:]:
        if excluded is not None and step.head == start_type:
            probability[excluded] = 0
        order = np.argsort(-probability, kind="stable")[:num_intermediate]
        via = order[probability[order] > 0].astype(np.int32)
        weight = probability[via] / probability[via].sum()
        flow = weight[:, None] * _tail_probabilities(scorer, step, via)
        probability = flow.sum(axis=0)
    return PathDistribution(probability, via, flow)


def _tail_probabilities(
    scorer: AnswerScorer, step: TripleType, heads: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "m nodes"]:
    """Returns the probability of every tail of a step for some heads."""
    blocks = []
    for start in range(0, len(heads), _BLOCK):
        block = heads[start : start + _BLOCK]
        scores = scorer(step, np.pad(block, (0, _BLOCK - len(block)), "edge"))
        blocks.append(np.asarray(jax.nn.softmax(scores, axis=1), np.float64)[: len(block)])
    return np.concatenate(blocks)


def answer_path(
    retriever: Retriever,
    steps: Sequence[TripleType],
    *,
    head: int | None = None,
    x: Float[np.ndarray, "1 dim"] | None = None,
    k: int = 10,
    answer: str = "",
    num_intermediate: int = NUM_INTERMEDIATE,
) -> list[PathAnswer]:
    """Answers a path question about one node or one new embedding.

    Args:
      retriever: Search over the nodes of the dataset.
      steps: Triple types of the path, as `parse_path` returns them.
      head: Row of the start in the table of its type; None for a new one.
      x: Raw embedding of a new start.
      k: Number of answers.
      answer: What answers each step: `fusion`, `bridge` or `knn`; default: as for a single step.
      num_intermediate: Number of nodes that are followed after each step.

    Raises:
      InputError: A number is below 1, or the path has a single step.
    """
    if len(steps) < 2:
        raise InputError("a path of one step is a relation; give --relation and --target")
    if k < 1:
        raise InputError(f"k {k}: must be at least 1")
    scorer = retriever.scorer(answer)
    if head is not None:
        first, query = scorer(steps[0], np.asarray([head], np.int32)), ""
        query = retriever.node_index(steps[0].head).ids[head]
    else:
        first, query = scorer.score_embeddings(steps[0], np.asarray(x)), "embedding 0"
    found = compose(scorer, np.asarray(first)[0], steps, num_intermediate, head)
    probability = found.probability.copy()
    kept = np.ones(len(probability), bool)
    if head is not None and steps[-1].tail == steps[0].head:
        kept[head] = False
    candidates = np.flatnonzero(kept)
    order = candidates[np.argsort(-probability[candidates], kind="stable")][:k].tolist()
    ends, middles = (retriever.node_index(t) for t in (steps[-1].tail, steps[-1].head))
    answers = []
    for rank, tail in enumerate(order, 1):
        share = found.flow[:, tail] / max(found.flow[:, tail].sum(), 1e-300)
        best = np.argsort(-share, kind="stable")[:MAX_VIA]
        via = [
            (middles.ids[row], middles.names[row], float(share[i]))
            for i, row in zip(best.tolist(), found.via[best].tolist(), strict=True)
        ]
        percentile = 100 * (len(candidates) - rank + 1) / len(candidates)
        answers.append(
            PathAnswer(
                query,
                rank,
                ends.ids[tail],
                ends.names[tail],
                float(probability[tail]),
                percentile,
                via,
            )
        )
    return answers


def as_text(answers: Sequence[PathAnswer], start: NodeIndex) -> str:
    """Formats the answers to one path question as a table under its id and name.

    Args:
      answers: The answers.
      start: Ids and names of the node type of the start.
    """
    query = answers[0].query
    names = dict(zip(start.ids, start.names, strict=True))
    title = f"{query}  {names[query]}" if names.get(query, query) != query else query
    rows: list[list[object]] = []
    for a in answers:
        via = ", ".join(f"{name} ({share:.0%})" for _, name, share in a.via)
        probability = format_probability(a.probability)
        rows.append([a.rank, a.id, a.name, probability, f"{a.percentile:.2f}", via])
    columns = ("rank", "id", "name", "probability", "percentile", "over")
    return f"{title}\n{text_table(rows, columns)}"
