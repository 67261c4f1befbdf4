"""Semantic similarity: are proteins whose vectors are close also alike in what the ontology says?

For each ontology (molecular function, biological process, cellular component): the Spearman
correlation, over pairs of held-out proteins, of

- their vectors' similarity, 1 - |a - b| / (|a| + |b|) with Manhattan lengths; and
- their annotations' similarity, the best-match average of Lin's (or Resnik's) term similarity,
  from the parent-child facts and the annotations of the graph itself (all splits: this is the
  truth, not what a model has seen).

Sources: Wang et al., "BioBridge", ICLR 2024, section 4.2; Lin, ICML 1998; Resnik, IJCAI 1995;
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
from bridge_jax.evaluation.evaluators.representations import views
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

PARENT_CHILD = "parent-child"
PROTEIN = "gene/protein"
MEASURES = ("Lin", "Resnik")
_PROTEINS = 500  # of each ontology at most; 125,000 pairs


class SemanticSimilarity:
    """Spearman correlation of vector and annotation similarity; see the module."""

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Work out the annotations' similarity.

        Args:
          setup: of the run.
          split: whose held-out proteins are compared; all proteins where none are held out.

        Raises:
          InputError: no protein with an annotation in an ontology, or an ontology with a cycle.
        """
        self._experiment = experiment
        graph = experiment.graph
        every = graph.pairs(graph.facts)
        self.nodes: dict[TripleType, np.ndarray] = {}
        self.truth: dict[tuple[TripleType, str], np.ndarray] = {}
        for triple_type, pairs in every.items():
            terms = TripleType(triple_type.tail, PARENT_CHILD, triple_type.tail)
            if triple_type.head != PROTEIN or terms not in every:
                continue
            count = graph.counts[graph.type_id(triple_type.tail)]
            above = ancestors(_stored_direction(experiment, terms), count)
            held = graph.heldout_mask(PROTEIN, [split])
            nodes = np.unique(pairs.heads)
            nodes = nodes[held[nodes]] if held.any() else nodes
            nodes = nodes[:: -(-len(nodes) // _PROTEINS) or 1].astype(np.int32)
            if len(nodes) < 3:
                continue
            shape = (graph.counts[graph.type_id(PROTEIN)], count)
            content = information(annotation_matrix(pairs, shape), above)
            own = annotation_matrix(pairs, shape)[nodes]
            self.nodes[triple_type] = nodes
            for measure in MEASURES:
                self.truth[triple_type, measure] = best_match(own, above, content, measure)
        if not self.nodes:
            raise InputError(
                f"{experiment.manifest.name} has no {split} {PROTEIN} with annotations in an ontology "
                f"(a type with {PARENT_CHILD} facts), so there is no semantic similarity"
            )

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `<ontology> <measure>: <vectors>`; `bridged` is into that ontology."""
        for triple_type, nodes in self.nodes.items():
            found = views(self._experiment, scorer, PROTEIN, nodes, {"bridged": triple_type})
            close = {name: manhattan_similarity(x) for name, x in found.items()}
            for measure in MEASURES:
                truth = self.truth[triple_type, measure]
                for name, similarity in close.items():
                    value = scipy.stats.spearmanr(truth, similarity).statistic
                    yield f"{triple_type.tail} {measure}: {name}", float(value)


def _stored_direction(experiment: Experiment, terms: TripleType) -> Pairs:
    """(parent, child) pairs: the facts within an ontology keep the direction of their source."""
    graph, out = experiment.graph, []
    for facts in graph.facts.values():
        rows = (facts.relation == graph.relation_id(terms.relation)) & (
            graph.types_of(facts.head) == graph.type_id(terms.head)
        )
        out.append((graph.local(facts.head[rows]), graph.local(facts.tail[rows])))
    return Pairs(*(np.concatenate(column) for column in zip(*out, strict=True)))


def ancestors(parents: Pairs, count: int) -> Bool[np.ndarray, "terms terms"]:
    """Which terms are above which: `[child, ancestor]`, every term above itself.

    Args:
      parents: (parent, child) pairs.
      count: of the terms.

    Raises:
      InputError: a term is above itself by way of others.
    """
    ones = np.ones(len(parents.heads), bool)
    step = scipy.sparse.csr_array((ones, (parents.tails, parents.heads)), shape=(count, count))
    components, _ = scipy.sparse.csgraph.connected_components(step, connection="strong")
    if components < count:
        raise InputError("the parent-child facts of an ontology form a cycle; import it anew")
    reached = scipy.sparse.eye_array(count, dtype=bool, format="csr")
    frontier = reached
    while frontier.nnz:
        frontier = frontier @ step
        reached = (reached + frontier).astype(bool)
    return np.asarray(reached.toarray())


def annotation_matrix(pairs: Pairs, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Which protein has which term, 0 or 1."""
    ones = np.ones(len(pairs.heads), np.float32)
    matrix = scipy.sparse.csr_array((ones, (pairs.heads, pairs.tails)), shape=shape)
    matrix.data[:] = 1
    return matrix


def information(
    annotated: scipy.sparse.csr_array, above: Bool[np.ndarray, "terms terms"]
) -> Float[np.ndarray, " terms"]:
    """-ln of the share of annotated proteins that are below a term; 0 for a term without any."""
    below = (annotated @ scipy.sparse.csr_array(above.astype(np.float32))).tocsr()
    share = (below > 0).sum(axis=0) / max((annotated.sum(axis=1) > 0).sum(), 1)
    return -np.log(np.where(share > 0, share, 1.0))


def best_match(
    own: scipy.sparse.csr_array,
    above: Bool[np.ndarray, "terms terms"],
    content: Float[np.ndarray, " terms"],
    measure: str,
) -> Float[np.ndarray, " pairs"]:
    """Best-match average of every pair of proteins.

    A pair's similarity is the mean of two: each term of one protein with its most similar term of
    the other, averaged over the terms, and the same the other way.

    Args:
      own: `[proteins, terms]`, each protein with at least one term.
      above: from `ancestors`.
      content: from `information`.
      measure: `Resnik`, the content of the most informative common ancestor of two terms; `Lin`,
        twice that over the sum of their own contents.

    Returns:
      `[proteins (proteins - 1) / 2]`, in the order of `scipy.spatial.distance.pdist`.
    """
    used = np.flatnonzero(own.sum(axis=0) > 0)
    similarity = common_information(above[used], content)
    if measure == "Lin":
        total = content[used][:, None] + content[used]
        similarity = np.where(total > 0, 2 * similarity / np.where(total > 0, total, 1), 0)
    has = own[:, used].toarray() > 0
    best = np.stack([similarity[row].max(axis=0) for row in has])
    one_way = (has / has.sum(axis=1, keepdims=True)) @ best.T
    both = (one_way + one_way.T) / 2
    return np.asarray(both[np.triu_indices(len(both), k=1)])


def common_information(
    above: Bool[np.ndarray, "used terms"], content: Float[np.ndarray, " terms"]
) -> Float[np.ndarray, "used used"]:
    """Content of the most informative common ancestor of every two terms; 0 if there is none."""
    out = np.zeros((len(above), len(above)))
    for term in np.argsort(content, kind="stable"):
        below = np.flatnonzero(above[:, term])
        out[np.ix_(below, below)] = content[term]
    return out


def manhattan_similarity(x: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, " pairs"]:
    """1 - |a - b| / (|a| + |b|) of every two rows, in the order of `pdist`."""
    length = np.abs(x).sum(axis=1, dtype=np.float64)
    i, j = np.triu_indices(len(x), k=1)
    return np.asarray(1 - pdist(x, "cityblock") / np.maximum(length[i] + length[j], 1e-12))
