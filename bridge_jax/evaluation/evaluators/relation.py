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
from bridge_jax.evaluation.evaluators.representations import cosine, ranking_values, raw, read
from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

FIGURES = ("mrr", "hits@10", "recall@50")
_QUERIES = 5000


class UnseenRelation:
    """MRR, Hits@10 and recall@50 of an unseen triple type; see the module."""

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Find the unseen triple types.

        Args:
          setup: of the run.
          split: whose queries are asked.

        Raises:
          InputError: every triple type of the split is trained, or its node types are not.
        """
        self._experiment = experiment
        graph = experiment.graph
        train = graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        ends = {t for k in self._trained for t in (k.head, k.tail)}
        asked = {k: pairs for k, pairs in experiment.queries[split].items() if len(pairs.heads)}
        unseen = [k for k in asked if k not in self._trained]
        self.tasks: dict[TripleType, Pairs] = {
            k: subsample_queries(asked[k], _QUERIES) for k in unseen if {k.head, k.tail} <= ends
        }
        if unseen and not self.tasks:
            alone = ", ".join(sorted({t for k in unseen for t in (k.head, k.tail)} - ends))
            raise InputError(
                f"{experiment.manifest.name} was trained without {unseen[0]} and shows no other fact of "
                f"{alone}: a bridge knows nothing of that type; hold out a triple type whose ends "
                "have other facts"
            )
        if not self.tasks:
            raise InputError(
                f"{experiment.manifest.name} has no triple type that {split} asks about and training "
                "never showed; import it with --split relation --hold-out head,relation,tail"
            )

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `<task> <figure>: <way>`, and the MRR of a random order."""
        for triple_type, asked in self.tasks.items():
            known, ways = (
                self._experiment.known[triple_type],
                partial(self._ways, triple_type, scorer),
            )
            yield from ranking_values(str(triple_type), triple_type, asked, known, FIGURES, ways)

    def _ways(
        self, triple_type: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Scores of the heads against all tails, one way after the other."""
        experiment = self._experiment
        mine = raw(experiment, triple_type.head, heads)
        x = read(experiment, triple_type.head, mine)
        tails = scorer.tails(triple_type.tail)
        others = raw(experiment, triple_type.tail, np.arange(len(tails)))
        if mine.shape[1] == others.shape[1]:
            yield "raw", cosine(mine, others)
        yield "projected", scorer.keys(triple_type.head, x) @ tails.T
        yield "bridged", scorer.queries(triple_type, x) @ tails.T
        for own in (
            k for k in self._trained if (k.head, k.tail) == (triple_type.head, triple_type.tail)
        ):
            yield f"by {own.relation}", scorer.queries(own, x) @ tails.T
