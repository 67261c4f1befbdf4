"""Relation: a triple type that was never trained, though both its node types were.

On a `relation` split (`tools.import_graph --split relation --hold-out head,relation,tail`) the
relation's own embedding is as it was initialised. All nodes of the tail type are ranked by

- `chance`: a random order;
- `raw`: cosine of the frozen embeddings, where both ends have the same dimension;
- `projected`: cosine after the projections, which know no relation;
- `bridged`: the bridge asked for the untrained relation by its name;
- `by r`: the bridge asked for a trained relation r between the same two types.
"""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jaxtyping import Int

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import cosine, figures, raw, read
from bridge_jax.evaluation.evaluators.retrieval import thin
from bridge_jax.experiment.experiment import Setup
from bridge_jax.models.scorer import BridgeScorer

FIGURES = ("mrr", "hits@10", "recall@50")
_QUERIES = 5000


class UnseenRelation:
    """MRR, Hits@10 and recall@50 of an unseen triple type; see the module."""

    def __init__(self, setup: Setup, split: str) -> None:
        """Find the unseen triple types.

        Args:
          setup: of the run.
          split: whose queries are asked.

        Raises:
          InputError: every triple type of the split is trained, or its node types are not.
        """
        self._setup = setup
        graph = setup.graph
        train = graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        ends = {t for k in self._trained for t in (k.head, k.tail)}
        asked = {k: pairs for k, pairs in setup.queries[split].items() if len(pairs.heads)}
        unseen = [k for k in asked if k not in self._trained]
        self.tasks: dict[TripleType, Pairs] = {
            k: thin(asked[k], _QUERIES) for k in unseen if {k.head, k.tail} <= ends
        }
        if unseen and not self.tasks:
            alone = ", ".join(sorted({t for k in unseen for t in (k.head, k.tail)} - ends))
            raise InputError(
                f"{setup.manifest.name} was trained without {unseen[0]} and shows no other fact of "
                f"{alone}: a bridge knows nothing of that type; hold out a triple type whose ends "
                "have other facts"
            )
        if not self.tasks:
            raise InputError(
                f"{setup.manifest.name} has no triple type that {split} asks about and training "
                "never showed; import it with --split relation --hold-out head,relation,tail"
            )

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `<task> <figure>: <way>`, and the MRR of a random order."""
        for kind, asked in self.tasks.items():
            known, ways = self._setup.known[kind], partial(self._ways, kind, scorer)
            yield from figures(str(kind), kind, asked, known, FIGURES, ways)

    def _ways(
        self, kind: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Scores of the heads against all tails, one way after the other."""
        setup = self._setup
        mine = raw(setup, kind.head, heads)
        x = read(setup, kind.head, mine)
        tails = scorer.tails(kind.tail)
        others = raw(setup, kind.tail, np.arange(len(tails)))
        if mine.shape[1] == others.shape[1]:
            yield "raw", cosine(mine, others)
        yield "projected", scorer.keys(kind.head, x) @ tails.T
        yield "bridged", scorer.queries(kind, x) @ tails.T
        for own in (k for k in self._trained if (k.head, k.tail) == (kind.head, kind.tail)):
            yield f"by {own.relation}", scorer.queries(own, x) @ tails.T
