"""What a trained bridge answers about a dataset: each query's best tails, known facts marked."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32

from bridge_jax.data.dataset import SPLITS
from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.graph import Known, TripleType, known_positives
from bridge_jax.errors import InputError, unknown
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Params
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.retrieval.exact_index import Index
from bridge_jax.retrieval.node_names import NodeIndex
from bridge_jax.retrieval.results import KNOWN, Neighbour


class Neighbours:
    """Searches the tails of a dataset for a bridge's queries."""

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        project: Callable[..., Float32[np.ndarray, "n width"]],
    ) -> None:
        """Hold the parts; tails are projected when they are first asked for.

        Args:
          setup: the dataset and the model.
          params: the trained numbers.
          project: `Trained.project`.
        """
        self._experiment, self._params, self._project = experiment, params, project
        self._scorer = experiment.scorer(params)
        self._names: dict[str, NodeIndex] = {}
        self._keys: dict[str, Float32[np.ndarray, "count width"]] = {}
        self._index: dict[TripleType, Index] = {}

    def names(self, node_type: str) -> NodeIndex:
        """Ids and names of a type's nodes."""
        if node_type not in self._names:
            ids = self._experiment.tables[node_type].ids
            named = read_names(self._experiment.config.dataset, node_type)
            self._names[node_type] = NodeIndex(node_type, ids, [named.get(i) or i for i in ids])
        return self._names[node_type]

    def keys(self, node_type: str) -> Float32[np.ndarray, "count width"]:
        """Every node of a type, projected; unit vectors."""
        if node_type not in self._keys:
            self._keys[node_type] = np.asarray(self._scorer.tails(node_type))
        return self._keys[node_type]

    def scale(self) -> float:
        """What a cosine is multiplied with."""
        return float(scale_of(self._params, self._experiment.config.loss))

    def prior(self, triple_type: TripleType) -> Float32[np.ndarray, " count"] | None:
        """What popularity adds to the score of each tail, if anything."""
        experiment = self._experiment
        at, share = (
            experiment.graph.triple_types.index(triple_type),
            experiment.prior[str(triple_type)],
        )
        prior = prior_of(self._params, experiment.config.loss, at, share)
        return None if prior is None else np.asarray(prior, np.float32)

    def index(self, triple_type: TripleType) -> Index:
        """The tails of a triple type, ready to be searched."""
        if triple_type not in self._index:
            self._index[triple_type] = Index(
                self.keys(triple_type.tail), self.scale(), self.prior(triple_type)
            )
        return self._index[triple_type]

    def queries(
        self, triple_type: TripleType, heads: Sequence[int]
    ) -> Float32[np.ndarray, "n width"]:
        """Nodes of the dataset bridged; unit vectors.

        Args:
          triple_type: the triple type.
          heads: rows of the head type's table.
        """
        return np.asarray(self._scorer.heads(triple_type, np.asarray(heads, np.int32)))

    @cached_property
    def _known(self) -> dict[str, dict[TripleType, Known]]:
        return {split: known_positives(self._experiment.graph, [split]) for split in SPLITS}

    def facts(self, triple_type: TripleType, head: int) -> dict[int, str]:
        """The known tails of a head, and the split that holds each."""
        found: dict[int, str] = {}
        for split in reversed(SPLITS):
            _, tails = self._known[split][triple_type].of(np.asarray([head], np.int32))
            found |= dict.fromkeys(tails.tolist(), split)
        return found

    def of_nodes(
        self, triple_type: TripleType, heads: Sequence[int], k: int, known: str
    ) -> list[Neighbour]:
        """Answers for nodes of the dataset.

        Args:
          triple_type: the triple type.
          heads: rows of the head type's table.
          k: tails for each.
          known: `mark` known facts, `hide` them, or `show` the answers as they are.

        Raises:
          InputError: `known` is none of these.
        """
        queries = self.queries(triple_type, heads)
        ids = self.names(triple_type.head).ids
        facts = [{} if known == "show" else self.facts(triple_type, head) for head in heads]
        itself = [{head} if triple_type.head == triple_type.tail else set[int]() for head in heads]
        return self._answer(triple_type, queries, [ids[h] for h in heads], facts, itself, k, known)

    def of_embeddings(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"], k: int
    ) -> list[Neighbour]:
        """Answers for new embeddings, about which nothing is known."""
        names = [f"embedding {row}" for row in range(len(x))]
        none = [dict[int, str]() for _ in names]
        queries = self._project(x, *triple_type)
        return self._answer(
            triple_type, queries, names, none, [set[int]() for _ in names], k, "show"
        )

    def _answer(
        self,
        triple_type: TripleType,
        vectors: np.ndarray,
        queries: Sequence[str],
        facts: Sequence[dict[int, str]],
        itself: Sequence[set[int]],
        k: int,
        known: str,
    ) -> list[Neighbour]:
        if known not in KNOWN:
            raise unknown("--known", known, KNOWN, "this version")
        if k < 1:
            raise InputError(f"k {k} is too small; ask for one neighbour at least")
        hidden = [
            own | (set(f) if known == "hide" else set())
            for f, own in zip(facts, itself, strict=True)
        ]
        most = k + max((len(h) for h in hidden), default=0)
        scores, tails = self.index(triple_type).search(vectors, most)
        names = self.names(triple_type.tail)
        out = []
        for query, fact, left_out, score, tail in zip(
            queries, facts, hidden, scores, tails, strict=True
        ):
            kept = [
                (s, t)
                for s, t in zip(score.tolist(), tail.tolist(), strict=True)
                if t not in left_out
            ]
            out += [
                Neighbour(query, rank, names.ids[t], names.names[t], s, fact.get(t, ""))
                for rank, (s, t) in enumerate(kept[:k], 1)
            ]
        return out
