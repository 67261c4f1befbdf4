"""What a bridge is good for, each question an evaluator.

An evaluator is made once from (setup, split), where it checks that the dataset can answer and
works out the truth; called with a bridge it yields (name, value). A name reads `what: vectors`, so
that the raw embeddings stand beside the bridged ones. Training calls those of
`config.evaluate.evaluators` at each validation, `python -m bridge_jax.evaluate --evaluators` calls
them on a split.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from bridge_jax.errors import unknown
from bridge_jax.registry import LazyRegistry

if TYPE_CHECKING:
    from bridge_jax.experiment.experiment import Experiment
    from bridge_jax.models.scorer import BridgeScorer

Evaluator = Callable[["BridgeScorer"], Iterator[tuple[str, float]]]

EVALUATORS: "LazyRegistry[Callable[[Experiment, str], Evaluator]]" = LazyRegistry(
    {
        "retrieval": "bridge_jax.evaluation.evaluators.retrieval:Retrieval",
        "semantic_similarity": "bridge_jax.evaluation.evaluators.semantic_similarity:SemanticSimilarity",
        "ppi": "bridge_jax.evaluation.evaluators.ppi:Interactions",
        "phenotype": "bridge_jax.evaluation.evaluators.phenotype:Phenotype",
        "relation": "bridge_jax.evaluation.evaluators.relation:UnseenRelation",
    }
)


def make_evaluators(
    experiment: "Experiment", names: Sequence[str], split: str
) -> dict[str, Evaluator]:
    """Make evaluators; each checks that the dataset can answer it.

    Raises:
      InputError: an unknown evaluator, or one that the dataset has nothing for.
    """
    for name in names:
        if name not in EVALUATORS:
            raise unknown("evaluator", name, EVALUATORS, "this version")
    return {name: EVALUATORS[name](experiment, split) for name in names}
