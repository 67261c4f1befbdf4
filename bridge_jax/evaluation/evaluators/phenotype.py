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
from bridge_jax.evaluation.evaluators.representations import cosine, figures, raw, read
from bridge_jax.evaluation.evaluators.retrieval import thin
from bridge_jax.experiment.experiment import Setup
from bridge_jax.models.scorer import BridgeScorer

FIGURES = ("mrr", "recall@10", "precision@10", "ndcg@10")
_QUERIES = 5000


class Phenotype:
    """Recall, precision and nDCG of finding nodes of an unseen type; see the module."""

    def __init__(self, setup: Setup, split: str) -> None:
        """Find the unseen types, their facts and the proxies.

        Args:
          setup: of the run.
          split: whose facts are asked.

        Raises:
          InputError: no type is held out as a whole, or none of the trained ones has its encoder.
        """
        self._setup = setup
        graph = setup.graph
        seen = {t for t in setup.tables if len(graph.train_nodes(t))}
        train = graph.pairs(["train"])
        self._trained = [k for k, pairs in train.items() if len(pairs.heads)]
        self.tasks: dict[TripleType, Pairs] = {
            kind: thin(pairs, _QUERIES)
            for kind, pairs in graph.pairs([split]).items()
            if kind.head in seen and kind.tail in setup.tables and kind.tail not in seen
            if len(pairs.heads)
        }
        if not self.tasks:
            raise InputError(
                f"{setup.manifest.name} holds out no node type as a whole in {split}; import "
                f"it with --split modality --hold-out TYPE, of {', '.join(graph.node_types)}"
            )
        self.proxies = {
            kind: [t for t in sorted(seen) if self._encoder(t) == self._encoder(kind.tail)]
            for kind in self.tasks
        }
        if not any(self.proxies.values()):
            raise InputError(
                f"{setup.manifest.name}: no trained type has the encoder of "
                f"{', '.join(sorted({k.tail for k in self.tasks}))}, so nothing can stand for it"
            )

    def _encoder(self, node_type: str) -> tuple[str, int]:
        table = self._setup.manifest.table(node_type)
        return table.encoder, table.dim

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `<head> → <unseen type> <figure>: <way>`, and the MRR of a random order."""
        for kind, asked in self.tasks.items():
            known, ways = self._setup.known[kind], partial(self._ways, kind, scorer)
            yield from figures(f"{kind.head} → {kind.tail}", kind, asked, known, FIGURES, ways)

    def _ways(
        self, kind: TripleType, scorer: BridgeScorer, heads: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Scores of the heads against all nodes of the unseen type, one way after the other."""
        setup = self._setup
        count = setup.graph.counts[setup.graph.type_id(kind.tail)]
        tails = raw(setup, kind.tail, np.arange(count))
        mine = raw(setup, kind.head, heads)
        x = read(setup, kind.head, mine)
        if self._encoder(kind.head) == self._encoder(kind.tail):
            yield "raw", cosine(mine, tails)
        for proxy in self.proxies[kind]:
            lent = read(setup, proxy, tails)
            if proxy == kind.head:
                yield f"projected as {proxy}", scorer.keys(proxy, x) @ scorer.keys(proxy, lent).T
                for own in (k for k in self._trained if k.head == proxy):
                    way = f"as {proxy}, {own.relation} → {own.tail}"
                    yield way, scorer.queries(own, x) @ scorer.queries(own, lent).T
            for own in (k for k in self._trained if (k.head, k.tail) == (kind.head, proxy)):
                scores = scorer.queries(own, x) @ scorer.keys(proxy, lent).T
                yield f"{own.relation} → {proxy}", scores
