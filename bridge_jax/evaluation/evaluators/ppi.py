"""Protein-protein interaction: a classifier tells interacting pairs from other pairs.

The positive pairs are the facts between proteins of the evaluated split, which no bridge has
trained on. The negative pairs are as many pairs without a known fact: the second protein is swapped
for one of another pair, so that the proteins of both classes are equally frequent. Each relation is
one label. The classifier is a logistic regression on |a - b| and a * b, the same for raw, projected
and bridged vectors; its penalty is selected on a tenth of its training pairs. Micro-F1 counts the
labels of all relations together.

A fifth of the pairs is tested: a random sample, or all pairs of the proteins that a breadth-first
or a depth-first search visits, so that the tested pairs involve proteins that the classifier has
not seen.

References:
  Lv et al., "Learning unknown from correlations: graph neural network for inter-novel-protein
  interaction prediction", IJCAI 2021.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bridge_jax.data.graph import Known
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import representations
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

PROTEIN = "gene/protein"
STRATEGIES = ("random", "BFS", "DFS")
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_MIN_PAIRS, _MAX_PAIRS = 20, 4000  # positive pairs
_TEST_FRACTION = 0.2


class ProteinInteraction:
    """Micro-F1 of a classifier of protein pairs, for several test sets and representations.

    Attributes:
      pairs: Positive pairs, local ids of proteins, `[n, 2]`.
      labels: Relations of each positive pair, `[n, relations]`.
      negatives: Negative pairs of each strategy, `[n, 2]`.
      tested: Mask of the tested pairs of each strategy, `[n]`.
    """

    name = "ppi"

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Samples the pairs and splits them.

        Args:
          experiment: Dataset and config of the run.
          split: Split of the facts that are the positive pairs.

        Raises:
          InputError: There are fewer than 20 facts between proteins, or scikit-learn is missing.
        """
        _import_sklearn()
        self._experiment = experiment
        pairs = experiment.graph.pairs([split])
        self._triple_types = [k for k in pairs if (k.head, k.tail) == (PROTEIN, PROTEIN)]
        facts = [np.stack(pairs[k], axis=1) for k in self._triple_types]
        directed = np.concatenate([np.zeros((0, 2), np.int32), *facts])
        positives = np.unique(np.sort(directed, axis=1), axis=0)
        if len(positives) < _MIN_PAIRS:
            raise InputError(
                f"{experiment.manifest.name} has {len(positives)} {split} facts between two "
                f"{PROTEIN} nodes; the ppi evaluator needs {_MIN_PAIRS}"
            )
        rng = np.random.default_rng(0)
        self.pairs = positives[np.sort(rng.permutation(len(positives))[:_MAX_PAIRS])]
        known = [experiment.known[k] for k in self._triple_types]
        self.labels = _labels(known, self.pairs)
        self.tested: dict[str, np.ndarray] = {}
        self.negatives: dict[str, np.ndarray] = {}
        for strategy in STRATEGIES:
            tested = select_test_pairs(self.pairs, strategy, rng)
            negatives = np.empty_like(self.pairs)
            for subset in (tested, ~tested):
                negatives[subset] = sample_negatives(self.pairs[subset], known, rng)
            self.tested[strategy], self.negatives[strategy] = tested, negatives

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yields `micro-F1 <strategy>: <representation>`.

        `bridged` is by the first relation between proteins.
        """
        nodes = np.unique(np.concatenate([self.pairs, *self.negatives.values()])).astype(np.int32)
        vectors = representations(
            self._experiment, scorer, PROTEIN, nodes, {"bridged": self._triple_types[0]}
        )
        labels = np.concatenate([self.labels, np.zeros_like(self.labels)])
        for strategy in STRATEGIES:
            pairs = np.concatenate([self.pairs, self.negatives[strategy]])
            first, second = np.searchsorted(nodes, pairs).T
            tested = np.concatenate([self.tested[strategy]] * 2)
            for name, x in vectors.items():
                features = pair_features(x[first], x[second])
                yield f"micro-F1 {strategy}: {name}", classify(features, labels, tested)


def _labels(known: list[Known], pairs: np.ndarray) -> Bool[np.ndarray, "pairs relations"]:
    """Returns which relations hold of each pair, in either direction."""
    a, b = (np.ascontiguousarray(pairs[:, i], np.int32) for i in (0, 1))
    return np.stack([k.contains(a, b) | k.contains(b, a) for k in known], axis=1)


def sample_negatives(
    pairs: Int[np.ndarray, "n 2"], known: list[Known], rng: np.random.Generator
) -> Int[np.ndarray, "n 2"]:
    """Swaps the second protein of each pair for one of another pair, so that it is no fact.

    A pair whose first protein interacts with nearly all others may still be a fact after 100 draws;
    it is then labelled as negative, which a few of many pairs can bear.

    Args:
      pairs: Positive pairs.
      known: Known positives of each relation.
      rng: Random generator.
    """
    negatives, is_bad = pairs.copy(), np.ones(len(pairs), bool)
    for _ in range(100):
        rows = rng.integers(len(pairs), size=int(is_bad.sum()))
        negatives[is_bad, 1] = pairs[rows, rng.integers(2, size=len(rows))]
        is_bad = (negatives[:, 0] == negatives[:, 1]) | _labels(known, negatives).any(axis=1)
        if not is_bad.any():
            break
    return negatives


def select_test_pairs(
    pairs: Int[np.ndarray, "n 2"], strategy: str, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Returns the mask of the tested pairs: a fifth of them, or a few more.

    Args:
      pairs: Undirected pairs.
      strategy: `random`; or all pairs of the first proteins that a search visits, `BFS` or `DFS`,
        starting from the protein with the fewest pairs. If a search ends early, another one
        starts.
      rng: Random generator for `random`.
    """
    if strategy == "random":
        return np.asarray(rng.permutation(len(pairs)) < _TEST_FRACTION * len(pairs))
    rows_of: dict[int, list[int]] = {}
    for row, (a, b) in enumerate(pairs.tolist()):
        rows_of.setdefault(a, []).append(row)
        rows_of.setdefault(b, []).append(row)
    tested, visited = np.zeros(len(pairs), bool), set()
    for start in sorted(rows_of, key=lambda n: (len(rows_of[n]), n)):
        queue = deque([start])
        while queue and tested.sum() < _TEST_FRACTION * len(pairs):
            node = queue.popleft() if strategy == "BFS" else queue.pop()
            if node not in visited:
                visited.add(node)
                tested[rows_of[node]] = True
                queue.extend(int(n) for n in pairs[rows_of[node]].ravel() if n != node)
    return tested


def pair_features(
    a: Float[np.ndarray, "n dim"], b: Float[np.ndarray, "n dim"]
) -> Float[np.ndarray, "n features"]:
    """Returns |a - b| and a * b, which do not depend on the order of the two."""
    return np.concatenate([np.abs(a - b), a * b], axis=1).astype(np.float64)


def classify(
    x: Float[np.ndarray, "n features"],
    labels: Bool[np.ndarray, "n relations"],
    tested: Bool[np.ndarray, " n"],
) -> float:
    """Fits a logistic regression per label on the untested rows; returns micro-F1 on the others.

    Args:
      x: Features, standardised before the fit.
      labels: Labels of each row.
      tested: Mask of the tested rows.
    """
    sklearn = _import_sklearn()
    train = np.flatnonzero(~tested)
    inner = np.zeros(len(x), bool)  # the rows on which the penalty is selected
    inner[np.random.default_rng(0).permutation(train)[: len(train) // 10]] = True
    fitted = ~tested & ~inner
    z = sklearn.preprocessing.StandardScaler().fit(x[fitted]).transform(x)

    def predict(rows: np.ndarray, penalty: float, queries: np.ndarray) -> np.ndarray:
        model = sklearn.linear_model.LogisticRegression(C=1 / penalty, max_iter=1000)
        columns = [
            np.full(int(queries.sum()), label[0])  # scikit-learn refuses a single class
            if (label == label[0]).all()
            else model.fit(z[rows], label).predict(z[queries])
            for label in labels[rows].T
        ]
        return np.stack(columns, axis=1)

    best = max(PENALTIES, key=lambda p: micro_f1(labels[inner], predict(fitted, p, inner)))
    return micro_f1(labels[tested], predict(~tested, best, tested))


def micro_f1(
    truth: Bool[np.ndarray, "n relations"], predicted: Bool[np.ndarray, "n relations"]
) -> float:
    """Returns 2 TP / (2 TP + FP + FN) over all labels; 0 if there is no positive at all.

    For a single label scikit-learn's micro average would count both classes: accuracy.
    """
    true_positives = int((truth & predicted).sum())
    num_positives = int(truth.sum()) + int(predicted.sum())
    return 2 * true_positives / num_positives if num_positives else 0.0


def _import_sklearn() -> Any:
    try:
        import sklearn.linear_model
        import sklearn.preprocessing
    except ImportError as e:
        raise InputError(
            "the ppi evaluator needs scikit-learn: pip install 'bridge_jax[evaluators]'"
        ) from e
    return sklearn
