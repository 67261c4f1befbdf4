"""Protein-protein interaction: can a simple classifier tell interacting pairs from their vectors?

The pairs are the facts between proteins of the evaluated split, which no bridge has trained on, and
as many pairs that are no known fact: the second protein is swapped for one of another pair, so that
the proteins of both occur equally often. One label a relation. The classifier is a logistic
regression on |a - b| and a b, the same for raw, projected and bridged vectors; its penalty is
chosen on a tenth of its own training pairs. Micro-F1 counts the labels of all relations together.

A fifth of the pairs is tested: drawn at random, or all pairs of proteins that a breadth-first or a
depth-first walk collects, so that tested pairs involve proteins the classifier has not seen (Lv et
al., "Learning unknown from correlations", IJCAI 2021).
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from bridge_jax.data.graph import Known
from bridge_jax.errors import InputError
from bridge_jax.evaluation.evaluators.representations import views
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.scorer import BridgeScorer

PROTEIN = "gene/protein"
WAYS = ("random", "BFS", "DFS")
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_PAIRS = 4000  # true ones, at most
_TESTED = 0.2


class Interactions:
    """Micro-F1 of a classifier of pairs; see the module."""

    def __init__(self, experiment: Experiment, split: str) -> None:
        """Choose the pairs and how they are split.

        Args:
          setup: of the run.
          split: whose facts are the pairs.

        Raises:
          InputError: fewer than 20 facts between proteins.
        """
        self._experiment = experiment
        pairs = experiment.graph.pairs([split])
        self._kinds = [k for k in pairs if (k.head, k.tail) == (PROTEIN, PROTEIN)]
        parts = [np.stack(pairs[k], axis=1) for k in self._kinds]
        both_ways = np.concatenate([np.zeros((0, 2), np.int32), *parts])
        true = np.unique(np.sort(both_ways, axis=1), axis=0)
        if len(true) < 20:
            raise InputError(
                f"{experiment.manifest.name} has {len(true)} {split} facts between two {PROTEIN} nodes; "
                "the interaction classifier needs 20"
            )
        rng = np.random.default_rng(0)
        true = true[np.sort(rng.permutation(len(true))[:_PAIRS])]
        known = [experiment.known[k] for k in self._kinds]
        self.labels = _labels(known, true)
        self.pairs, self.tested, self.swapped = true, {}, {}
        for how in WAYS:
            test = walk(true, how, rng)
            self.tested[how] = test
            self.swapped[how] = np.empty_like(true)
            for part in (test, ~test):
                self.swapped[how][part] = swapped(true[part], known, rng)

    def __call__(self, scorer: BridgeScorer) -> Iterator[tuple[str, float]]:
        """Yield `micro-F1 <way>: <vectors>`; `bridged` is by the first relation of proteins."""
        nodes = np.unique(np.concatenate([self.pairs, *self.swapped.values()])).astype(np.int32)
        found = views(self._experiment, scorer, PROTEIN, nodes, {"bridged": self._kinds[0]})
        nothing = np.zeros_like(self.labels)
        for how in WAYS:
            ends = np.searchsorted(nodes, np.concatenate([self.pairs, self.swapped[how]]))
            labels = np.concatenate([self.labels, nothing])
            test = np.concatenate([self.tested[how]] * 2)
            for name, x in found.items():
                features = pair_features(x[ends[:, 0]], x[ends[:, 1]])
                yield f"micro-F1 {how}: {name}", classify(features, labels, test)


def _labels(known: list[Known], pairs: np.ndarray) -> Bool[np.ndarray, "pairs relations"]:
    """Which relations hold of a pair, in either direction."""
    a, b = (np.ascontiguousarray(pairs[:, i], np.int32) for i in (0, 1))
    return np.stack([k.contains(a, b) | k.contains(b, a) for k in known], axis=1)


def swapped(
    pairs: Int[np.ndarray, "n 2"], known: list[Known], rng: np.random.Generator
) -> Int[np.ndarray, "n 2"]:
    """For each pair one with the second protein of another, that is no fact.

    A pair whose first protein interacts with nearly all others may keep a fact after 100 draws; it
    is then labelled as none, which a few of many pairs can bear.
    """
    out, wrong = pairs.copy(), np.ones(len(pairs), bool)
    for _ in range(100):
        drawn = rng.integers(len(pairs), size=int(wrong.sum()))
        out[wrong, 1] = pairs[drawn, rng.integers(2, size=len(drawn))]
        wrong = (out[:, 0] == out[:, 1]) | _labels(known, out).any(axis=1)
        if not wrong.any():
            break
    return out


def walk(
    pairs: Int[np.ndarray, "n 2"], how: str, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Which pairs are tested: a fifth of them, or a few more.

    Args:
      pairs: undirected.
      how: `random`; or all pairs of the first proteins of a walk, `BFS` or `DFS`, from the protein
        with the fewest pairs on. Further walks follow when one ends.
      rng: for `random`.
    """
    if how == "random":
        return np.asarray(rng.permutation(len(pairs)) < _TESTED * len(pairs))
    beside: dict[int, list[int]] = {}
    for row, (a, b) in enumerate(pairs.tolist()):
        beside.setdefault(a, []).append(row)
        beside.setdefault(b, []).append(row)
    tested, seen = np.zeros(len(pairs), bool), set()
    for start in sorted(beside, key=lambda n: (len(beside[n]), n)):
        todo = deque([start])
        while todo and tested.sum() < _TESTED * len(pairs):
            node = todo.popleft() if how == "BFS" else todo.pop()
            if node not in seen:
                seen.add(node)
                tested[beside[node]] = True
                todo.extend(int(n) for n in pairs[beside[node]].ravel() if n != node)
    return tested


def pair_features(
    a: Float[np.ndarray, "n dim"], b: Float[np.ndarray, "n dim"]
) -> Float[np.ndarray, "n features"]:
    """|a - b| and a b: the same whichever comes first."""
    return np.concatenate([np.abs(a - b), a * b], axis=1).astype(np.float64)


def classify(
    x: Float[np.ndarray, "n features"],
    labels: Bool[np.ndarray, "n relations"],
    test: Bool[np.ndarray, " n"],
) -> float:
    """Micro-F1 of the tested rows, by a logistic regression fitted on the others."""
    train = np.flatnonzero(~test)
    inner = np.zeros(len(x), bool)
    inner[np.random.default_rng(0).permutation(train)[: len(train) // 10]] = True
    fitted = ~test & ~inner
    mean, scale = x[fitted].mean(axis=0), x[fitted].std(axis=0)
    z = np.c_[(x - mean) / np.where(scale > 1e-9, scale, 1), np.ones(len(x))]

    def predicted(rows: np.ndarray, penalty: float, asked: np.ndarray) -> np.ndarray:
        weights = [logistic(z[rows], labels[rows, i], penalty) for i in range(labels.shape[1])]
        return z[asked] @ np.stack(weights, axis=1) > 0

    best = max(PENALTIES, key=lambda p: micro_f1(labels[inner], predicted(fitted, p, inner)))
    return micro_f1(labels[test], predicted(~test, best, test))


def logistic(
    x: Float[np.ndarray, "n features"],
    label: Bool[np.ndarray, " n"],
    penalty: float,
    steps: int = 8,
) -> Float[np.ndarray, " features"]:
    """Minimise the sum of -log p(label) + penalty |w|^2 / 2 by Newton's method.

    Args:
      x: features; the last one is 1 and free of the penalty.
      label: of each row.
      penalty: of the weights.
      steps: of Newton's method.
    """
    w = np.zeros(x.shape[1])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-6
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - label) + ridge * w
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        w = w - np.linalg.solve(curvature, gradient)
    return w


def micro_f1(
    truth: Bool[np.ndarray, "n relations"], predicted: Bool[np.ndarray, "n relations"]
) -> float:
    """2 TP / (2 TP + FP + FN) over all labels; 0 when there is none at all."""
    both = int((truth & predicted).sum())
    total = int(truth.sum()) + int(predicted.sum())
    return 2 * both / total if total else 0.0
