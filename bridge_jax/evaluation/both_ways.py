"""A bridge asked both ways: from the head to the tails, and from each tail back to the head.

    log p(t | h, r) + w (log p(h | t, r⁻¹) + log p(t))

The second term is Bayes' rule on the bridge's own answer to the reverse question, p(t) being the
tail's share of training facts. The weight w of each triple type is chosen on the validation split
by MRR. Nothing is trained for it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.evaluation.baselines.popularity import log_counts
from bridge_jax.evaluation.tuning import choose, validation
from bridge_jax.models.scorer import BridgeScorer

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
# Tails asked at a time.
_BLOCK = 2048


class BothWays:
    """The bridge's forward and reverse answers, added up; a scorer.

    Attributes:
      weights: w of each triple type; 0 is the forward answer alone.
    """

    name = "both ways"

    def __init__(self, graph: Graph, bridge: BridgeScorer) -> None:
        """Choose the weights on the validation split.

        Args:
          graph: the split graph.
          bridge: the trained bridge.
        """
        self._bridge = bridge
        self._popularity = log_counts(graph.pairs(["train"]), graph)
        self._asked: dict[TripleType, tuple[Array, Array]] = {}
        self.weights: dict[TripleType, float] = {}
        for kind, (queries, known) in validation(graph).items():
            self.weights[kind] = choose(
                WEIGHTS, lambda w: partial(self._score, weight=w), kind, queries, known
            )

    def __call__(self, kind: TripleType, heads: Int[np.ndarray, " n"]) -> Float32[Array, "n tails"]:
        """Score every tail for each head."""
        return self._score(kind, heads, self.weights[kind])

    def _score(self, kind: TripleType, heads: np.ndarray, weight: float) -> Array:
        forward = jax.nn.log_softmax(self._bridge(kind, heads), axis=1)
        if not weight:
            return forward
        asked, bias = self._tails(kind)
        back = self._bridge.scale * self._bridge.tails(kind.head)[heads] @ asked.T
        return forward + jnp.float32(weight) * (back + bias)

    def _tails(self, kind: TripleType) -> tuple[Float[Array, "tails d"], Float[Array, " tails"]]:
        """Every tail asked for its heads, and what its answer lacks to be `p(h | t) p(t)`."""
        if kind not in self._asked:
            back = TripleType(kind.tail, kind.relation, kind.head)
            every = np.arange(len(self._popularity[kind]), dtype=np.int32)
            blocks = [every[at : at + _BLOCK] for at in range(0, len(every), _BLOCK)]
            asked = jnp.concatenate([self._bridge.heads(back, b) for b in blocks])
            total = [jax.nn.logsumexp(self._bridge(back, b), axis=1) for b in blocks]
            bias = jnp.asarray(self._popularity[kind]) - jnp.concatenate(total)
            self._asked = {kind: (asked, bias)}  # queries come one triple type after the other
        return self._asked[kind]
