"""What a bridge is good for, each question an evaluator.

An evaluator is made once from (setup, split), where it checks that the dataset can answer and
works out the truth; called with a bridge it yields (name, value). A name reads `what: vectors`, so
that the raw embeddings stand beside the bridged ones. Training calls those of
`config.evaluate.evaluators` at each validation, `python -m bridge_jax.evaluate --evaluators` calls
them on a split.
"""

from collections.abc import Callable, Iterator

from bridge_jax.evaluators.phenotype import Phenotype
from bridge_jax.evaluators.ppi import Interactions
from bridge_jax.evaluators.relation import UnseenRelation
from bridge_jax.evaluators.retrieval import Retrieval
from bridge_jax.evaluators.semantic_similarity import SemanticSimilarity
from bridge_jax.run import Setup
from bridge_jax.scorer import BridgeScorer

Evaluator = Callable[[BridgeScorer], Iterator[tuple[str, float]]]

EVALUATORS: dict[str, Callable[[Setup, str], Evaluator]] = {
    "retrieval": Retrieval,
    "semantic_similarity": SemanticSimilarity,
    "ppi": Interactions,
    "phenotype": Phenotype,
    "relation": UnseenRelation,
}
