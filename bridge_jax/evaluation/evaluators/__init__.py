"""Downstream evaluators: what a bridge is good for, one question each.

An evaluator is a class that is built once from (experiment, split). Its constructor checks that
the dataset has what it needs and prepares the ground truth. Called with a bridge, it yields (name,
value) pairs. A name reads `metric: representation`, so that raw, projected and bridged embeddings
stand side by side. Training runs those of `config.evaluate.evaluators` at each validation;
`python -m bridge_jax.evaluate --evaluators` runs them on a split.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bridge_jax.errors import unknown
from bridge_jax.registry import LazyRegistry

if TYPE_CHECKING:
    from bridge_jax.experiment.experiment import Experiment
    from bridge_jax.models.scorer import BridgeScorer


@runtime_checkable
class Evaluator(Protocol):
    """A downstream evaluator.

    Attributes:
      name: Name in `EVALUATORS`.
    """

    name: str

    def __call__(self, scorer: "BridgeScorer") -> Iterator[tuple[str, float]]:
        """Yields the name and the value of each metric of a bridge."""


EVALUATORS: "LazyRegistry[Callable[[Experiment, str], Evaluator]]" = LazyRegistry(
    {
        "retrieval": f"{__name__}.retrieval:Retrieval",
        "semantic_similarity": f"{__name__}.semantic_similarity:SemanticSimilarity",
        "ppi": f"{__name__}.ppi:ProteinInteraction",
        "phenotype": f"{__name__}.phenotype:Phenotype",
        "relation": f"{__name__}.relation:UnseenRelation",
    }
)


def make_evaluators(
    experiment: "Experiment", names: Sequence[str], split: str
) -> dict[str, Evaluator]:
    """Builds evaluators by name.

    Args:
      experiment: Dataset and config of the run.
      names: Names in `EVALUATORS`.
      split: `validation` or `test`.

    Raises:
      InputError: An evaluator is unknown, or the dataset lacks what it needs.
    """
    for name in names:
        if name not in EVALUATORS:
            raise unknown("evaluator", name, EVALUATORS, "this version")
    return {name: EVALUATORS[name](experiment, split) for name in names}
