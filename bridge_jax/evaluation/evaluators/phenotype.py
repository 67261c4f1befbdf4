"""Phenotype: a modality that was never trained, reached through a proxy type.

On a `modality` split (`tools.import_graph --split modality --hold-out effect/phenotype`) no fact of
the held-out type is trained on, so it has no projection of its own. A trained type with the same
encoder, the *proxy*, lends its projection: a phenotype is read as if it were a disease, or a
process. For every head type with facts to the unseen one, all unseen nodes are ranked by

- `raw`: cosine of the frozen embeddings, where both ends have the same encoder;
- `projected as P`: cosine after the proxy's projection, where the head's own type is the proxy P;
- `r → P`: the head bridged by a trained relation r to the proxy P, the unseen node projected as P
  (how the paper finds the phenotypes of mouse proteins);
- `as P, r → X`: both ends bridged by the proxy's relation r and compared among the X.

Source: Wang et al., "BioBridge", ICLR 2024, section 4.3.
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

FIGURES = ("mrr", "recall@10", "precision@10", "ndcg@10")
_QUERIES = 5000


class Phenotype:
    """Recall, precision and nDCG of finding nodes of an unseen type; see the module."""

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Find the unseen types, their facts and the proxies.

        Args:
          setup: of the run.
          split: whose facts are asked.

        Raises:
          InputError: no type is held out as a whole, or none of the trained ones has its encoder.
        """
        self._experiment = experiment
        graph = experiment.graph
        seen = {t for t in experiment.tables if len(graph.train_nodes(t))}
        train = graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        self.tasks: dict[TripleType, Pairs] = {
            triple_type: subsample_queries(pairs, _QUERIES)
            for triple_type, pairs in graph.pairs([split]).items()
            if triple_type.head in seen
            and triple_type.tail in experiment.tables
            and triple_type.tail not in seen
            if len(pairs.heads)
        }
        if not self.tasks:
            raise InputError(
                f"{experiment.manifest.name} holds out no node type as a whole in {split}; import "
                f"it with --split modality --hold-out TYPE, of {', '.join(graph.node_types)}"
            )
        self.proxies = {
            triple_type: [
                t for t in sorted(seen) if self._encoder(t) == self._encoder(triple_type.tail)
            ]
            for triple_type in self.tasks
        }
        if not any(self.proxies.values()):
            raise InputError(
                f"{experiment.manifest.name}: no trained type has the encoder of "
                f"{', '.join(sorted({k.tail for k in self.tasks}))}, so nothing can stand for it"
            )

    def _encoder(self, node_type: str) -> tuple[str, int]:
        table = self._experiment.manifest.table(node_type)
        return table.encoder, table.dim

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `<head> → <unseen type> <figure>: <way>`, and the MRR of a random order."""
        for triple_type, asked in self.tasks.items():
            known, ways = (
                self._experiment.known[triple_type],
                partial(self._ways, triple_type, scorer),
            )
            yield from ranking_values(
                f"{triple_type.head} → {triple_type.tail}", triple_type, asked, known, FIGURES, ways
            )

    def _ways(
        self, triple_type: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Scores of the heads against all nodes of the unseen type, one way after the other."""
        experiment = self._experiment
        count = experiment.graph.counts[experiment.graph.type_id(triple_type.tail)]
        tails = raw(experiment, triple_type.tail, np.arange(count))
        mine = raw(experiment, triple_type.head, heads)
        x = read(experiment, triple_type.head, mine)
        if self._encoder(triple_type.head) == self._encoder(triple_type.tail):
            yield "raw", cosine(mine, tails)
        for proxy in self.proxies[triple_type]:
            lent = read(experiment, proxy, tails)
            if proxy == triple_type.head:
                yield f"projected as {proxy}", scorer.keys(proxy, x) @ scorer.keys(proxy, lent).T
                for own in (k for k in self._trained if k.head == proxy):
                    way = f"as {proxy}, {own.relation} → {own.tail}"
                    yield way, scorer.queries(own, x) @ scorer.queries(own, lent).T
            for own in (k for k in self._trained if (k.head, k.tail) == (triple_type.head, proxy)):
                scores = scorer.queries(own, x) @ scorer.keys(proxy, lent).T
                yield f"{own.relation} → {proxy}", scores
