"""Relation: retrieval by a triple type that was not trained, between two trained node types.

On a `relation` split (`tools.import_graph --split relation --hold-out head,relation,tail`) the
embedding of the relation is as it was initialised. All nodes of the tail type are ranked by

- `chance`: a random order;
- `raw`: cosine of the frozen embeddings, if both ends have the same dimension;
- `projected`: cosine after the projections, which do not depend on the relation;
- `bridged`: the bridge with the untrained relation;
- `by r`: the bridge with a trained relation r between the same two types.
"""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jaxtyping import Int

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import (
    cosine,
    model_inputs,
    ranking_metrics,
    raw_embeddings,
)
from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

METRICS = ("mrr", "hits@10", "recall@50")
_MAX_QUERIES = 5000  # per triple type


class UnseenRelation:
    """MRR, Hits@10 and recall@50 of each unseen triple type, by several methods.

    Attributes:
      tasks: Queries of each unseen triple type.
    """

    name = "relation"

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Finds the unseen triple types.

        Args:
          experiment: Dataset and config of the run.
          split: Split of the queries.

        Raises:
          InputError: Every triple type of the split was trained, or its node types were not.
        """
        self._experiment = experiment
        train = experiment.graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        trained_types = {t for k in self._trained for t in (k.head, k.tail)}
        queries = {k: pairs for k, pairs in experiment.queries[split].items() if len(pairs.heads)}
        unseen = [k for k in queries if k not in self._trained]
        self.tasks: dict[TripleType, Pairs] = {
            k: subsample_queries(queries[k], _MAX_QUERIES)
            for k in unseen
            if {k.head, k.tail} <= trained_types
        }
        if self.tasks:
            return
        dataset = experiment.manifest.name
        if unseen:
            untrained = sorted({t for k in unseen for t in (k.head, k.tail)} - trained_types)
            raise InputError(
                f"{dataset} was trained without {unseen[0]}, and no other training fact has a node "
                f"of {', '.join(untrained)}, so the bridge has not learned that type; hold out a "
                "triple type whose node types have other facts"
            )
        raise InputError(
            f"{dataset} has no triple type with {split} queries and without training facts; import "
            "it with --split relation --hold-out head,relation,tail"
        )

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yields `<task> <metric>: <method>`, and the MRR of a random order."""
        for triple_type, queries in self.tasks.items():
            yield from ranking_metrics(
                str(triple_type),
                triple_type,
                queries,
                self._experiment.known[triple_type],
                METRICS,
                partial(self._scores_by_method, triple_type, scorer),
            )

    def _scores_by_method(
        self, triple_type: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Yields each method and its scores of the heads against all tails."""
        raw_heads = raw_embeddings(self._experiment, triple_type.head, heads)
        x = model_inputs(self._experiment, triple_type.head, raw_heads)
        tails = scorer.tails(triple_type.tail)
        raw_tails = raw_embeddings(self._experiment, triple_type.tail, np.arange(len(tails)))
        if raw_heads.shape[1] == raw_tails.shape[1]:
            yield "raw", cosine(raw_heads, raw_tails)
        yield "projected", scorer.keys(triple_type.head, x) @ tails.T
        yield "bridged", scorer.queries(triple_type, x) @ tails.T
        for trained in self._trained:
            if (trained.head, trained.tail) == (triple_type.head, triple_type.tail):
                yield f"by {trained.relation}", scorer.queries(trained, x) @ tails.T
