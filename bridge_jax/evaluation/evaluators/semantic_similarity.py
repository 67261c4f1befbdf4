"""Semantic similarity: do similar protein vectors mean similar ontology annotations?

For each ontology (molecular function, biological process, cellular component): the Spearman
correlation, over pairs of held-out proteins, of

- their vectors' similarity, 1 - |a - b| / (|a| + |b|) with Manhattan norms; and
- their annotations' similarity, the best-match average of Lin's (or Resnik's) term similarity,
  from the parent-child facts and the annotations of the graph. All splits are used: this is the
  ground truth, not what a model has seen.

References:
  Wang et al., "BioBridge: Bridging Biomedical Foundation Models via Knowledge Graphs", ICLR 2024,
  section 4.2.
  Lin, "An information-theoretic definition of similarity", ICML 1998.
  Resnik, "Using information content to evaluate semantic similarity in a taxonomy", IJCAI 1995.
  Pesquita et al., "Semantic similarity in biomedical ontologies", PLoS Comput. Biol. 2009.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse.csgraph  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
from jaxtyping import Bool, Float
from scipy.spatial.distance import pdist  # type: ignore[import-untyped]

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import representations
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

PARENT_CHILD = "parent-child"
PROTEIN = "gene/protein"
MEASURES = ("Lin", "Resnik")
_MAX_PROTEINS = 500  # per ontology; 125,000 pairs


class SemanticSimilarity:
    """Spearman correlation of vector similarity and annotation similarity.

    Attributes:
      nodes: Local ids of the compared proteins, by triple type from protein to ontology.
      truth: Annotation similarity of every pair, by (triple type, measure).
    """

    name = "semantic_similarity"

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Computes the annotation similarities.

        Args:
          experiment: Dataset and config of the run.
          split: Split of the held-out proteins; all proteins if none are held out.

        Raises:
          InputError: No protein has an annotation in an ontology, or an ontology has a cycle.
        """
        self._experiment = experiment
        graph = experiment.graph
        facts = graph.pairs(graph.facts)
        self.nodes: dict[TripleType, np.ndarray] = {}
        self.truth: dict[tuple[TripleType, str], np.ndarray] = {}
        for triple_type, pairs in facts.items():
            hierarchy = TripleType(triple_type.tail, PARENT_CHILD, triple_type.tail)
            if triple_type.head != PROTEIN or hierarchy not in facts:
                continue
            num_terms = graph.counts[graph.type_id(triple_type.tail)]
            is_ancestor = ancestors(_parent_child_pairs(experiment, hierarchy), num_terms)
            heldout = graph.heldout_mask(PROTEIN, [split])
            nodes = np.unique(pairs.heads)
            nodes = nodes[heldout[nodes]] if heldout.any() else nodes
            nodes = nodes[:: -(-len(nodes) // _MAX_PROTEINS) or 1].astype(np.int32)
            if len(nodes) < 3:
                continue
            num_proteins = graph.counts[graph.type_id(PROTEIN)]
            annotations = annotation_matrix(pairs, (num_proteins, num_terms))
            content = information_content(annotations, is_ancestor)
            self.nodes[triple_type] = nodes
            for measure in MEASURES:
                self.truth[triple_type, measure] = best_match_average(
                    annotations[nodes], is_ancestor, content, measure
                )
        if not self.nodes:
            raise InputError(
                f"{experiment.manifest.name} has no {split} {PROTEIN} with annotations in an "
                f"ontology (a type with {PARENT_CHILD} facts), which the semantic_similarity "
                "evaluator needs"
            )

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yields `<ontology> <measure>: <representation>`; `bridged` is into that ontology."""
        for triple_type, nodes in self.nodes.items():
            vectors = representations(
                self._experiment, scorer, PROTEIN, nodes, {"bridged": triple_type}
            )
            similarity = {name: manhattan_similarity(x) for name, x in vectors.items()}
            for measure in MEASURES:
                truth = self.truth[triple_type, measure]
                for name, values in similarity.items():
                    correlation = scipy.stats.spearmanr(truth, values).statistic
                    yield f"{triple_type.tail} {measure}: {name}", float(correlation)


def _parent_child_pairs(experiment: Experiment, hierarchy: TripleType) -> Pairs:
    """Returns (parent, child) pairs: facts within an ontology are stored in this direction."""
    graph, columns = experiment.graph, []
    for facts in graph.facts.values():
        rows = (facts.relation == graph.relation_id(hierarchy.relation)) & (
            graph.types_of(facts.head) == graph.type_id(hierarchy.head)
        )
        columns.append((graph.local(facts.head[rows]), graph.local(facts.tail[rows])))
    return Pairs(*(np.concatenate(ids) for ids in zip(*columns, strict=True)))


def ancestors(parents: Pairs, num_terms: int) -> Bool[np.ndarray, "terms terms"]:
    """Returns the ancestors of each term as a mask `[term, ancestor]`, including the term itself.

    Args:
      parents: The (parent, child) pairs.
      num_terms: Number of terms.

    Raises:
      InputError: The pairs form a cycle.
    """
    ones = np.ones(len(parents.heads), bool)
    step = scipy.sparse.csr_array(
        (ones, (parents.tails, parents.heads)), shape=(num_terms, num_terms)
    )
    num_components, _ = scipy.sparse.csgraph.connected_components(step, connection="strong")
    if num_components < num_terms:
        raise InputError(
            "the parent-child facts of an ontology form a cycle; remove it and import the dataset "
            "again"
        )
    reached = scipy.sparse.eye_array(num_terms, dtype=bool, format="csr")
    frontier = reached
    while frontier.nnz:
        frontier = frontier @ step
        reached = (reached + frontier).astype(bool)
    return np.asarray(reached.toarray())


def annotation_matrix(pairs: Pairs, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Returns which protein has which term, as zeros and ones `[proteins, terms]`."""
    ones = np.ones(len(pairs.heads), np.float32)
    matrix = scipy.sparse.csr_array((ones, (pairs.heads, pairs.tails)), shape=shape)
    matrix.data[:] = 1
    return matrix


def information_content(
    annotations: scipy.sparse.csr_array, is_ancestor: Bool[np.ndarray, "terms terms"]
) -> Float[np.ndarray, " terms"]:
    """Computes -ln of the share of annotated proteins that have a term or a descendant of it.

    Args:
      annotations: Annotation matrix `[proteins, terms]`.
      is_ancestor: Mask from `ancestors`.

    Returns:
      One value per term; 0 for a term without proteins.
    """
    counts = (annotations @ scipy.sparse.csr_array(is_ancestor.astype(np.float32))).tocsr()
    share = (counts > 0).sum(axis=0) / max((annotations.sum(axis=1) > 0).sum(), 1)
    return -np.log(np.where(share > 0, share, 1.0))


def best_match_average(
    annotations: scipy.sparse.csr_array,
    is_ancestor: Bool[np.ndarray, "terms terms"],
    content: Float[np.ndarray, " terms"],
    measure: str,
) -> Float[np.ndarray, " pairs"]:
    """Computes the best-match average similarity of every pair of proteins.

    Each term of one protein is matched with its most similar term of the other, and the
    similarities are averaged over the terms. The result is the mean of both directions.

    Args:
      annotations: Annotation matrix `[proteins, terms]`; each protein has at least one term.
      is_ancestor: Mask from `ancestors`.
      content: Values from `information_content`.
      measure: `Resnik`, the content of the most informative common ancestor of two terms; or `Lin`,
        twice that over the sum of the contents of both terms.

    Returns:
      `[proteins (proteins - 1) / 2]`, in the order of `scipy.spatial.distance.pdist`.
    """
    used = np.flatnonzero(annotations.sum(axis=0) > 0)
    similarity = common_ancestor_content(is_ancestor[used], content)
    if measure == "Lin":
        total = content[used][:, None] + content[used]
        similarity = np.where(total > 0, 2 * similarity / np.where(total > 0, total, 1), 0)
    has_term = annotations[:, used].toarray() > 0
    best_match = np.stack([similarity[terms].max(axis=0) for terms in has_term])
    one_way = (has_term / has_term.sum(axis=1, keepdims=True)) @ best_match.T
    mean = (one_way + one_way.T) / 2
    return np.asarray(mean[np.triu_indices(len(mean), k=1)])


def common_ancestor_content(
    is_ancestor: Bool[np.ndarray, "used terms"], content: Float[np.ndarray, " terms"]
) -> Float[np.ndarray, "used used"]:
    """Returns the content of the most informative common ancestor of every two terms, or 0."""
    out = np.zeros((len(is_ancestor), len(is_ancestor)))
    for term in np.argsort(content, kind="stable"):
        descendants = np.flatnonzero(is_ancestor[:, term])
        out[np.ix_(descendants, descendants)] = content[term]
    return out


def manhattan_similarity(x: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, " pairs"]:
    """Computes 1 - |a - b| / (|a| + |b|) of every two rows, in the order of `pdist`."""
    norm = np.abs(x).sum(axis=1, dtype=np.float64)
    i, j = np.triu_indices(len(x), k=1)
    return np.asarray(1 - pdist(x, "cityblock") / np.maximum(norm[i] + norm[j], 1e-12))
