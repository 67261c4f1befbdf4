"""Retrieval of each query's best tails with a trained bridge; known facts are marked or hidden."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from bridge_jax.data.embedding_tables import read_names
from bridge_jax.data.graph import Known, TripleType, known_positives
from bridge_jax.data.manifest import SPLITS
from bridge_jax.errors import InputError
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Params
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.retrieval.exact_index import ExactIndex
from bridge_jax.retrieval.node_names import NodeIndex
from bridge_jax.retrieval.results import KNOWN_MODES, Neighbour


class _Query(NamedTuple):
    """What is known about one query.

    Attributes:
      label: Name of the query in the results.
      known_tails: Split of each known tail.
      excluded_tails: Tails that are left out of the results.
    """

    label: str
    known_tails: Mapping[int, str]
    excluded_tails: set[int]


class Retriever:
    """Searches all tails of a dataset for a bridge's queries.

    Projected tails and indexes are computed on first use and kept.
    """

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        project: Callable[..., Float32[np.ndarray, "n width"]],
    ) -> None:
        """Stores the model and its dataset.

        Args:
          experiment: Dataset and model.
          params: Trained parameters.
          project: `Predictor.project`, for embeddings that are not in the dataset.
        """
        self._experiment, self._params, self._project = experiment, params, project
        self._scorer = experiment.scorer(params)
        self._node_indexes: dict[str, NodeIndex] = {}
        self._tails: dict[str, Float32[np.ndarray, "count width"]] = {}
        self._indexes: dict[TripleType, ExactIndex] = {}

    def node_index(self, node_type: str) -> NodeIndex:
        """Returns the ids and names of a type's nodes."""
        if node_type not in self._node_indexes:
            ids = self._experiment.tables[node_type].ids
            name_of = read_names(self._experiment.config.dataset, node_type)
            names = [name_of.get(node) or node for node in ids]
            self._node_indexes[node_type] = NodeIndex(node_type, ids, names)
        return self._node_indexes[node_type]

    def project_tails(self, node_type: str) -> Float32[np.ndarray, "count width"]:
        """Returns all nodes of a type as keys: projected, of unit length."""
        if node_type not in self._tails:
            self._tails[node_type] = np.asarray(self._scorer.tails(node_type))
        return self._tails[node_type]

    def bridge_heads(
        self, triple_type: TripleType, heads: Sequence[int]
    ) -> Float32[np.ndarray, "n width"]:
        """Returns nodes of the dataset as queries: bridged, of unit length.

        Args:
          triple_type: Triple type to bridge along.
          heads: Rows of the head type's table.
        """
        return np.asarray(self._scorer.heads(triple_type, np.asarray(heads, np.int32)))

    def logit_scale(self) -> float:
        """Returns the factor of the cosine in a score, 1 / temperature."""
        return float(scale_of(self._params, self._experiment.config.loss))

    def tail_prior(self, triple_type: TripleType) -> Float32[np.ndarray, " count"] | None:
        """Returns what popularity adds to the score of each tail; None if there is no prior."""
        experiment = self._experiment
        row = experiment.graph.triple_types.index(triple_type)
        log_shares = experiment.log_shares[str(triple_type)]
        prior = prior_of(self._params, experiment.config.loss, row, log_shares)
        return None if prior is None else np.asarray(prior, np.float32)

    def build_index(self, triple_type: TripleType) -> ExactIndex:
        """Returns the search index over the tails of a triple type."""
        if triple_type not in self._indexes:
            self._indexes[triple_type] = ExactIndex(
                self.project_tails(triple_type.tail),
                self.logit_scale(),
                self.tail_prior(triple_type),
            )
        return self._indexes[triple_type]

    @cached_property
    def _known_positives(self) -> dict[str, dict[TripleType, Known]]:
        return {split: known_positives(self._experiment.graph, [split]) for split in SPLITS}

    def find_known_tails(self, triple_type: TripleType, head: int) -> dict[int, str]:
        """Returns the known tails of a head, each with the split of its fact."""
        split_of: dict[int, str] = {}
        for split in reversed(SPLITS):
            _, tails = self._known_positives[split][triple_type].of(np.asarray([head], np.int32))
            split_of |= dict.fromkeys(tails.tolist(), split)
        return split_of

    def search_by_node(
        self, triple_type: TripleType, heads: Sequence[int], k: int, known: str
    ) -> list[Neighbour]:
        """Returns the k best tails of nodes of the dataset; a node is never its own result.

        Args:
          triple_type: Triple type to retrieve along.
          heads: Rows of the head type's table.
          k: Number of tails per head.
          known: What to do with known facts: `mark`, `hide` or `show` (neither).

        Raises:
          InputError: `known` is none of these, or k is below 1.
        """
        if known not in KNOWN_MODES:
            raise InputError(f"known {known!r}: must be one of {', '.join(KNOWN_MODES)}")
        ids = self.node_index(triple_type.head).ids
        queries = []
        for head in heads:
            known_tails = {} if known == "show" else self.find_known_tails(triple_type, head)
            excluded = {head} if triple_type.head == triple_type.tail else set[int]()
            if known == "hide":
                excluded |= known_tails.keys()
            queries.append(_Query(ids[head], known_tails, excluded))
        return self._search(triple_type, self.bridge_heads(triple_type, heads), queries, k)

    def search_by_embedding(
        self, triple_type: TripleType, x: Float[np.ndarray, "n dim"], k: int
    ) -> list[Neighbour]:
        """Returns the k best tails of new embeddings, about which no facts are known.

        Args:
          triple_type: Triple type to retrieve along.
          x: Raw embeddings of the head type.
          k: Number of tails per embedding.

        Raises:
          InputError: The embeddings do not fit the head type, or k is below 1.
        """
        queries = [_Query(f"embedding {row}", {}, set()) for row in range(len(x))]
        return self._search(triple_type, self._project(x, *triple_type), queries, k)

    def _search(
        self,
        triple_type: TripleType,
        vectors: Float32[np.ndarray, "n width"],
        queries: Sequence[_Query],
        k: int,
    ) -> list[Neighbour]:
        if k < 1:
            raise InputError(f"k {k}: must be at least 1")
        # As many more as can be left out, so that k remain.
        searched_k = k + max((len(query.excluded_tails) for query in queries), default=0)
        all_scores, all_tails = self.build_index(triple_type).search(vectors, searched_k)
        nodes = self.node_index(triple_type.tail)
        results = []
        for query, scores, tails in zip(queries, all_scores, all_tails, strict=True):
            kept = [
                (score, tail)
                for score, tail in zip(scores.tolist(), tails.tolist(), strict=True)
                if tail not in query.excluded_tails
            ]
            results += [
                Neighbour(
                    query=query.label,
                    rank=rank,
                    id=nodes.ids[tail],
                    name=nodes.names[tail],
                    score=score,
                    known=query.known_tails.get(tail, ""),
                )
                for rank, (score, tail) in enumerate(kept[:k], 1)
            ]
        return results
