"""A memory: the bridge's answer mixed with those of the nearest training heads.

    p(t | h, r) = (1 - m) softmax_t logit(h, r, t) + m vote(t | h, r)

`vote` is the share of weighted neighbours' facts that name t. The mixing weight m of each triple
type is chosen on the validation split by MRR. The bridge generalises over relations and knows the
tails; the memory is exact about homologous heads. Nothing is trained for it.

Source: Khandelwal et al., "Generalization through memorization: nearest neighbor language models",
ICLR 2020.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from bridge_jax.baselines.nearest import Nearest
from bridge_jax.baselines.tuning import choose, validation
from bridge_jax.graph import Graph, TripleType
from bridge_jax.ranking import Scorer

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)


class Memory:
    """The bridge and the nearest training heads, interpolated; a scorer.

    Attributes:
      weights: m of each triple type; 0 is the bridge alone.
    """

    name = "bridge + memory"

    def __init__(
        self,
        graph: Graph,
        nearest: Nearest,
        bridge: Scorer,
    ) -> None:
        """Choose the weights on the validation split.

        Args:
          graph: the split graph.
          nearest: the training heads and their facts.
          bridge: the trained bridge; its scores are logits.
        """
        self._nearest, self._bridge = nearest, bridge
        self.weights: dict[TripleType, float] = {}
        for kind, (queries, known) in validation(graph).items():
            self.weights[kind] = choose(WEIGHTS, self._with, kind, queries, known)

    def _with(self, weight: float) -> Scorer:
        return partial(self._score, weight=weight)

    def _score(
        self, kind: TripleType, heads: np.ndarray, weight: float
    ) -> Float32[jax.Array, "b nodes"]:
        logits = self._bridge(kind, heads)
        return _mix(logits, self._nearest.votes(kind, heads), jnp.float32(weight))

    def __call__(
        self, kind: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Log-probability of every tail for each head."""
        return self._score(kind, heads, self.weights[kind])


@jax.jit
def _mix(
    logits: Float[jax.Array, "b n"], votes: Float[jax.Array, "b n"], weight: Float[jax.Array, ""]
) -> Float[jax.Array, "b n"]:
    share = votes / jnp.maximum(votes.sum(axis=1, keepdims=True), 1e-12)
    log_bridge = jax.nn.log_softmax(logits, axis=1) + jnp.log1p(-weight)
    return jnp.logaddexp(log_bridge, jnp.log(share) + jnp.log(weight))
