"""Questions that the page offers as examples, chosen by the facts of the test split."""

import math
from typing import NamedTuple

import numpy as np

from bridge_jax.data.graph import Known, TripleType, known_positives
from bridge_jax.web.question import Question
from bridge_jax.web.service import QueryService

NUM_EXAMPLES = 4
_SPLITS = ("test", "validation", "train")  # in which facts are looked for, in this order
_NUM_HEADS = 5  # nodes of each relation that are tried
_NUM_RESULTS = 5
_MAX_NAME = 32  # characters of a name in a label


class Example(NamedTuple):
    """A question with a label, e.g. `AKT1 → molecular_function`."""

    label: str
    question: Question


def choose_examples(service: QueryService) -> list[Example]:
    """Chooses questions whose first answers are facts that the model was not trained on.

    Of each relation to another type the nodes with most such facts are tried. The best question of
    each node type is an example: first that of the page's first type, then the best of the others.

    Args:
      service: Service that answers.
    """
    experiment = service.bridge.experiment
    assert experiment is not None
    for split in _SPLITS:
        facts = known_positives(experiment.graph, [split])
        if any(len(known.tails) for known in facts.values()):
            break
    best: dict[str, tuple[float, Example]] = {}
    for triple_type in service.bridge.triple_types:
        source, target = triple_type.head, triple_type.tail
        for score, row in _try_heads(service, triple_type, facts[triple_type], split):
            # A relation within a type is an example only if there is no other.
            score -= source == target
            if source not in best or score > best[source][0]:
                index = service.bridge.retriever.node_index(source)
                question = Question(triple_type, id=index.ids[row])
                best[source] = score, Example(f"{_shorten(index.names[row])} → {target}", question)
    first = best.pop(service.sources[0])
    others = sorted(best.values(), key=lambda item: -item[0])
    return [example for _, example in [first, *others][:NUM_EXAMPLES]]


def _try_heads(
    service: QueryService, triple_type: TripleType, facts: Known, split: str
) -> list[tuple[float, int]]:
    """Returns the probability that first answers give to facts of a split, and the head's row."""
    rows = np.argsort(-np.diff(facts.indptr), kind="stable")[:_NUM_HEADS].tolist()
    retriever = service.bridge.retriever
    scored = []
    for row in rows:  # one at a time, as the page asks
        results = retriever.search_by_node(triple_type, [row], _NUM_RESULTS, "mark")
        scored.append((math.fsum(r.probability for r in results if r.known == split), row))
    return scored


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
