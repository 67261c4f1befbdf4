"""Phenotype: retrieval of nodes of a type that was not trained, by means of a proxy type.

On a `modality` split (`tools.import_graph --split modality --hold-out effect/phenotype`) training
has no fact of the held-out type, so that type has no trained projection. The projection of a
trained type with the same encoder, the *proxy*, is used instead: a phenotype is read as if it were
a disease, or a biological process. For every head type with facts to the unseen type, all unseen
nodes are ranked by

- `raw`: cosine of the frozen embeddings, if both ends have the same encoder;
- `projected as P`: cosine after the projection of the proxy P, if the head's own type is P;
- `r → P`: the head bridged by a trained relation r to the proxy P, the unseen node projected as P
  (how the paper finds the phenotypes of mouse proteins);
- `as P, r → X`: both ends bridged by a relation r of the proxy and compared in the space of X.

References:
  Wang et al., "BioBridge: Bridging Biomedical Foundation Models via Knowledge Graphs", ICLR 2024,
  section 4.3.
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

METRICS = ("mrr", "recall@10", "precision@10", "ndcg@10")
_MAX_QUERIES = 5000  # per triple type


class Phenotype:
    """MRR, recall, precision and nDCG of nodes of an unseen type, by several methods.

    Attributes:
      tasks: Queries of each triple type with an unseen tail type.
      proxies: Proxy types of each of these triple types.
    """

    name = "phenotype"

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Finds the unseen types, their facts and the proxies.

        Args:
          experiment: Dataset and config of the run.
          split: Split of the facts.

        Raises:
          InputError: No type is held out as a whole, or no trained type has its encoder.
        """
        self._experiment = experiment
        graph = experiment.graph
        trained_types = {t for t in experiment.tables if len(graph.train_nodes(t))}
        train = graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        self.tasks: dict[TripleType, Pairs] = {
            triple_type: subsample_queries(pairs, _MAX_QUERIES)
            for triple_type, pairs in graph.pairs([split]).items()
            if triple_type.head in trained_types
            and triple_type.tail in experiment.tables
            and triple_type.tail not in trained_types
            if len(pairs.heads)
        }
        if not self.tasks:
            raise InputError(
                f"{experiment.manifest.name} holds out no node type as a whole in {split}; import "
                f"it with --split modality --hold-out TYPE, of {', '.join(graph.node_types)}"
            )
        self.proxies = {
            triple_type: [
                t
                for t in sorted(trained_types)
                if self._encoder(t) == self._encoder(triple_type.tail)
            ]
            for triple_type in self.tasks
        }
        if not any(self.proxies.values()):
            raise InputError(
                f"{experiment.manifest.name}: no trained type has the encoder of "
                f"{', '.join(sorted({k.tail for k in self.tasks}))}, so there is no proxy for it; "
                "embed another node type with the same encoder"
            )

    def _encoder(self, node_type: str) -> tuple[str, int]:
        table = self._experiment.manifest.table(node_type)
        return table.encoder, table.dim

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yields `<head> → <unseen type> <metric>: <method>`, and the MRR of a random order."""
        for triple_type, queries in self.tasks.items():
            yield from ranking_metrics(
                f"{triple_type.head} → {triple_type.tail}",
                triple_type,
                queries,
                self._experiment.known[triple_type],
                METRICS,
                partial(self._scores_by_method, triple_type, scorer),
            )

    def _scores_by_method(
        self, triple_type: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Yields each method and its scores of the heads against all nodes of the unseen type."""
        experiment = self._experiment
        num_tails = experiment.graph.counts[experiment.graph.type_id(triple_type.tail)]
        raw_tails = raw_embeddings(experiment, triple_type.tail, np.arange(num_tails))
        raw_heads = raw_embeddings(experiment, triple_type.head, heads)
        x = model_inputs(experiment, triple_type.head, raw_heads)
        if self._encoder(triple_type.head) == self._encoder(triple_type.tail):
            yield "raw", cosine(raw_heads, raw_tails)
        for proxy in self.proxies[triple_type]:
            y = model_inputs(experiment, proxy, raw_tails)
            if proxy == triple_type.head:
                yield f"projected as {proxy}", scorer.keys(proxy, x) @ scorer.keys(proxy, y).T
                for trained in (k for k in self._trained if k.head == proxy):
                    method = f"as {proxy}, {trained.relation} → {trained.tail}"
                    yield method, scorer.queries(trained, x) @ scorer.queries(trained, y).T
            for trained in self._trained:
                if (trained.head, trained.tail) == (triple_type.head, proxy):
                    scores = scorer.queries(trained, x) @ scorer.keys(proxy, y).T
                    yield f"{trained.relation} → {proxy}", scores
