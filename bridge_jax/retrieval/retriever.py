"""Retrieval of each query's best tails with a trained bridge; known facts are marked or hidden."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from bridge_jax.data.embedding_tables import (
    apply_transform,
    fit_transform,
    l2_normalise,
)
from bridge_jax.data.graph import Known, TripleType, known_positives
from bridge_jax.data.manifest import SPLITS
from bridge_jax.errors import InputError
from bridge_jax.evaluation.calibration import ConfidenceBin, confidence_of
from bridge_jax.evaluation.fusion_fit import build_fusion, fit_fusion
from bridge_jax.evaluation.fusion_settings import FusionSettings
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Params
from bridge_jax.models.fusion import AnswerScorer, Fusion, NeighbourScorer
from bridge_jax.models.knn import HeadKNN, TailKNN
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.models.scorer import BridgeScorer
from bridge_jax.retrieval.evidence import (
    FactIndex,
    Reasons,
    SimilarNode,
    Step,
    shares_of_parts,
    similar_heads,
    similar_tails,
)
from bridge_jax.retrieval.exact_index import check_finite
from bridge_jax.retrieval.node_names import NodeIndex, read_node_index
from bridge_jax.retrieval.results import ANSWERS, KNOWN_MODES, Neighbour

# Queries scored at a time; fewer are padded to the first size that holds them, so that each size
# compiles once.
_BLOCK_SIZES = (1, 8, 64)
_BLOCK = _BLOCK_SIZES[-1]
SAME_NODE_COSINE = 0.9999


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

    Projected tails, names and the fusion are computed on first use and kept.
    """

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        project: Callable[..., Float32[np.ndarray, "n width"]],
        source: str = "this bridge",
        read_fusion: Callable[[BridgeScorer], FusionSettings] | None = None,
    ) -> None:
        """Stores the model and its dataset.

        Args:
          experiment: Dataset and model.
          params: Trained parameters.
          project: `Predictor.project`, for embeddings that are not in the dataset.
          source: Folder and step that the parameters are from, for messages.
          read_fusion: Function from the bridge to the settings of its fusion, called when they are
            first needed; default: they are selected on the validation split.
        """
        self._source = source
        self._experiment, self._params, self._project = experiment, params, project
        self._scorer = experiment.scorer(params)
        self._read_fusion = read_fusion or partial(fit_fusion, experiment, step=0)
        self._node_indexes: dict[str, NodeIndex] = {}
        self._tails: dict[str, Float32[np.ndarray, "count width"]] = {}
        self._standardised: dict[str, tuple[tuple[np.ndarray, np.ndarray], np.ndarray]] = {}

    @property
    def default_answer(self) -> str:
        """What answers unless told otherwise: the last row of the run's evaluation table."""
        return Fusion.name if self._experiment.config.evaluate.knn else BridgeScorer.name

    @cached_property
    def fusion_settings(self) -> FusionSettings:
        """Settings of the fusion, as stored with the run."""
        return self._read_fusion(self._scorer)

    @cached_property
    def fusion(self) -> Fusion:
        """Fusion of the bridge with its nearest neighbours."""
        return build_fusion(self._experiment, self._scorer, self.fusion_settings)

    def scorer(self, answer: str = "") -> AnswerScorer:
        """Returns the scorer that answers, the same as in an evaluation.

        Args:
          answer: `fusion`, `bridge` or `knn`; default: `default_answer`.

        Raises:
          InputError: It is none of these.
        """
        match answer or self.default_answer:
            case Fusion.name:
                return self.fusion
            case BridgeScorer.name:
                return self._scorer
            case NeighbourScorer.name:
                return NeighbourScorer(self.fusion)
        raise InputError(f"answer {answer!r}: must be one of {', '.join(ANSWERS)}")

    def node_index(self, node_type: str) -> NodeIndex:
        """Returns the ids, names and synonyms of a type's nodes."""
        if node_type not in self._node_indexes:
            experiment = self._experiment
            ids = experiment.tables[node_type].ids
            self._node_indexes[node_type] = read_node_index(
                experiment.config.dataset, experiment.manifest, node_type, ids
            )
        return self._node_indexes[node_type]

    def project_tails(self, node_type: str) -> Float32[np.ndarray, "count width"]:
        """Returns all nodes of a type as keys: projected, of unit length."""
        if node_type not in self._tails:
            tails = np.asarray(self._scorer.tails(node_type))
            ids = self._experiment.tables[node_type].ids
            self._check_finite(f"the projection of {node_type}", tails, ids)
            self._tails[node_type] = tails
        return self._tails[node_type]

    def bridge_heads(
        self, triple_type: TripleType, heads: Sequence[int]
    ) -> Float32[np.ndarray, "n width"]:
        """Returns nodes of the dataset as queries: bridged, of unit length.

        Args:
          triple_type: Triple type to bridge along.
          heads: Rows of the head type's table.

        Raises:
          InputError: A query is NaN or infinite.
        """
        queries = np.asarray(self._scorer.heads(triple_type, np.asarray(heads, np.int32)))
        ids = self._experiment.tables[triple_type.head].ids
        noun = f"the query of {triple_type.head}"
        self._check_finite(noun, queries, [ids[head] for head in heads])
        return queries

    def _check_finite(
        self, noun: str, rows: Float[np.ndarray, "n d"], names: Sequence[str]
    ) -> None:
        """Raises an `InputError` that names the node and the run if a row is not finite."""
        try:
            check_finite(noun, rows, names)
        except InputError as e:
            raise InputError(f"{self._source}: {e}") from e

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
        self,
        triple_type: TripleType,
        heads: Sequence[int],
        k: int,
        known: str,
        answer: str = "",
    ) -> list[Neighbour]:
        """Returns the k best tails of nodes of the dataset; a node is never its own result.

        Args:
          triple_type: Triple type to retrieve along.
          heads: Rows of the head type's table.
          k: Number of tails per head.
          known: What to do with known facts: `mark`, `hide` or `show` (neither).
          answer: What answers: `fusion`, `bridge` or `knn`; default: `default_answer`.

        Raises:
          InputError: `known` or `answer` is none of these, or k is below 1.
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
        scorer = self.scorer(answer)
        rows = np.asarray(heads, np.int32)
        return self._search(
            triple_type, lambda block: scorer(triple_type, rows[block]), queries, k, answer
        )

    def search_by_embedding(
        self,
        triple_type: TripleType,
        x: Float[np.ndarray, "n dim"],
        k: int,
        known: str = "mark",
        answer: str = "",
        labels: Sequence[str] = (),
    ) -> list[Neighbour]:
        """Returns the k best tails of embeddings.

        The embedding of a node of the dataset gets that node's answers; about a new one no facts
        are known.

        Args:
          triple_type: Triple type to retrieve along.
          x: Raw embeddings of the head type.
          k: Number of tails per embedding.
          known: What to do with known facts, as for `search_by_node`.
          answer: What answers: `fusion`, `bridge` or `knn`; default: `default_answer`.
          labels: Name of each embedding in the results; default: `embedding 0`, `embedding 1`, …
            The id of the node that it belongs to is added in parentheses.

        Raises:
          InputError: The embeddings do not fit the head type, `answer` is none of these, or k is
            below 1.
        """
        self._check_embeddings(x, triple_type.head)
        same = self.find_same_nodes(triple_type.head, x)
        nodes = self.node_index(triple_type.head)
        names = labels or [f"embedding {row}" for row in range(len(x))]
        # An embedding named like a node that it does not belong to is not shown as that node.
        own_ids = set(nodes.ids)
        others = [f"{name} (new)" if name in own_ids else name for name in names]
        new = [row for row, head in enumerate(same) if head is None]
        heads = [(row, head) for row, head in enumerate(same) if head is not None]
        scorer = self.scorer(answer)
        of_new = self._search(
            triple_type,
            lambda positions: scorer.score_embeddings(triple_type, x[new][positions]),
            [_Query(others[row], {}, set()) for row in new],
            k,
            answer,
        )
        of_nodes = self.search_by_node(triple_type, [head for _, head in heads], k, known, answer)
        by_row: dict[int, list[Neighbour]] = {}
        for rows, results in ((new, of_new), ([row for row, _ in heads], of_nodes)):
            first = [i for i, result in enumerate(results) if result.rank == 1]
            stops = [*first, len(results)][1:]
            for row, start, stop in zip(rows, first, stops, strict=True):
                by_row[row] = results[start:stop]
        for row, head in heads:
            node = nodes.ids[head]
            label = node if names[row] == node else f"{names[row]} ({node})"
            by_row[row] = [result._replace(query=label) for result in by_row[row]]
        return [result for row in sorted(by_row) for result in by_row[row]]

    def explain(
        self,
        triple_type: TripleType,
        tails: Sequence[int],
        *,
        head: int | None = None,
        x: Float[np.ndarray, "1 dim"] | None = None,
    ) -> list[Reasons]:
        """Says what speaks for some answers to one query.

        Args:
          triple_type: Triple type of the query.
          tails: Rows of the answers.
          head: Row of the query in the table of its type; None for a new one.
          x: Raw embedding of a new query.

        Returns:
          For each answer the shares of its probability, the similar nodes behind the votes, and
          known facts that lead from the query to it.
        """
        fusion = self.fusion
        rows = np.asarray([0 if head is None else head], np.int32)
        if x is None:
            evidence = fusion.evidence(triple_type, rows)
        else:
            evidence = fusion.evidence_of_embeddings(triple_type, x)
        similar: dict[str, list[list[SimilarNode]]] = {}
        for space, voter in fusion.voters.items():
            if isinstance(voter, HeadKNN):
                name = voter.settings[triple_type].space
                if x is None:
                    neighbours = voter.find_neighbours(triple_type, rows, name)
                else:
                    neighbours = voter.find_neighbours_of_embeddings(triple_type, x, name)
                similar[space] = similar_heads(voter, triple_type, neighbours, tails)
            elif isinstance(voter, TailKNN) and head is not None:
                similar[space] = similar_tails(voter, triple_type, head, tails)
        parts = shares_of_parts(evidence, fusion, triple_type, tails)
        graph = self._experiment.graph
        reasons = []
        for i, tail in enumerate(tails):
            paths: list[tuple[Step, ...]] = []
            if head is not None:
                start = int(graph.offsets[graph.type_id(triple_type.head)]) + head
                end = int(graph.offsets[graph.type_id(triple_type.tail)]) + tail
                paths = self._fact_index.paths(start, end)
            of_tail = {space: nodes[i] for space, nodes in similar.items() if nodes[i]}
            reasons.append(Reasons(parts[i], of_tail, paths))
        return reasons

    @cached_property
    def _fact_index(self) -> FactIndex:
        return FactIndex(self._experiment.graph)

    def find_same_nodes(self, node_type: str, x: Float[np.ndarray, "n dim"]) -> list[int | None]:
        """Finds the node of the dataset that each embedding belongs to.

        Args:
          node_type: Node type of the embeddings.
          x: Raw embeddings.

        Returns:
          Row of the node whose standardised embedding has a cosine of at least 0.9999; None for a
          new one. Of several such nodes, the most similar one.
        """
        if node_type not in self._standardised:
            table = self._experiment.tables[node_type]
            rows = self._experiment.graph.nodes_to_fit_on(node_type)
            fitted = fit_transform(table.stored, rows, "standardise")
            self._standardised[node_type] = (
                fitted, l2_normalise(apply_transform(table.stored, *fitted))
            )  # fmt: skip
        fitted, keys = self._standardised[node_type]
        cosine = l2_normalise(apply_transform(x, *fitted)) @ keys.T
        best = np.argmax(cosine, axis=1)
        same = cosine[np.arange(len(x)), best] >= SAME_NODE_COSINE
        return [int(row) if is_same else None for row, is_same in zip(best, same, strict=True)]

    def _search(
        self,
        triple_type: TripleType,
        score: Callable[[np.ndarray], Float[Array, "b nodes"]],
        queries: Sequence[_Query],
        k: int,
        answer: str,
    ) -> list[Neighbour]:
        """Ranks all tails for each query, a block of queries at a time.

        Args:
          triple_type: Triple type to retrieve along.
          score: Function from positions of queries to the scores of all tails.
          queries: The queries.
          k: Number of results per query.
          answer: What answers.
        """
        if k < 1:
            raise InputError(f"k {k}: must be at least 1")
        confidence = self._confidence_bins(triple_type, answer)
        nodes = self.node_index(triple_type.tail)
        results: list[Neighbour] = []
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            size = next(s for s in _BLOCK_SIZES if s >= len(block))
            positions = np.minimum(np.arange(start, start + size), len(queries) - 1)
            scores = score(positions)
            probabilities = np.asarray(jax.nn.softmax(scores, axis=1))
            for query, row, probability in zip(
                block, np.asarray(scores)[: len(block)], probabilities[: len(block)], strict=True
            ):
                self._check_scores(triple_type, query, row)
                results += _best_tails(query, row, probability, nodes, k, confidence)
        return results

    def _confidence_bins(self, triple_type: TripleType, answer: str) -> Sequence[ConfidenceBin]:
        if (answer or self.default_answer) != Fusion.name:
            return ()
        return self.fusion_settings.confidence.get(triple_type, ())

    def _check_embeddings(self, x: np.ndarray, node_type: str) -> None:
        """Refuses embeddings that the model cannot read, as `Predictor.project` does."""
        self._project(x, node_type)

    def _check_scores(self, triple_type: TripleType, query: _Query, scores: np.ndarray) -> None:
        """Raises an error that names the query and a tail if a score is NaN or infinite."""
        finite = np.isfinite(scores)
        if not finite.all():
            tail = self.node_index(triple_type.tail).ids[int(np.argmin(finite))]
            raise InputError(
                f"{self._source}: the score of {tail!r} for {query.label!r} is NaN or infinite; "
                "the run has diverged, or its checkpoint is damaged"
            )


def _best_tails(
    query: _Query,
    scores: Float32[np.ndarray, " nodes"],
    probability: Float32[np.ndarray, " nodes"],
    nodes: NodeIndex,
    k: int,
    confidence: Sequence[ConfidenceBin],
) -> list[Neighbour]:
    """Returns the k best tails of one query.

    Facts that the run was trained on come first, at most k // 2 of them: a person who asks wants to
    see that they are known. Of equal scores the first row comes first.
    """
    kept = np.ones(len(scores), bool)
    kept[list(query.excluded_tails)] = False
    candidates = np.flatnonzero(kept)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    percentile = 100 * np.arange(len(order), 0, -1) / max(len(order), 1)
    trained_on = np.array([query.known_tails.get(tail) == "train" for tail in order.tolist()], bool)
    first = np.flatnonzero(trained_on)[: k // 2]
    shown = np.concatenate([first, np.setdiff1d(np.arange(k + len(first)), first)])
    results = []
    for rank, position in enumerate(shown[shown < len(order)][:k].tolist(), 1):
        tail = int(order[position])
        known = query.known_tails.get(tail, "")
        found = None if known else confidence_of(confidence, float(probability[tail]))
        results.append(
            Neighbour(
                query=query.label,
                rank=rank,
                id=nodes.ids[tail],
                name=nodes.names[tail],
                probability=float(probability[tail]),
                percentile=float(percentile[position]),
                confidence=None if found is None else found.known,
                known=known,
                score=float(scores[tail]),
            )
        )
    return results
