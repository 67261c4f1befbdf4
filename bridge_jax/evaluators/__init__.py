"""What a bridge is good for, each question an evaluator.

An evaluator is made once from (setup, split), where it checks that the dataset can answer and
works out the truth; called with a bridge it yields (name, value). A name reads `what: vectors`, so
that the raw embeddings stand beside the bridged ones. Training calls those of
`config.evaluate.evaluators` at each validation, `python -m bridge_jax.evaluate --evaluators` calls
them on a split.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from bridge_jax.errors import unknown
from bridge_jax.evaluators.phenotype import Phenotype
from bridge_jax.evaluators.ppi import Interactions
from bridge_jax.evaluators.relation import UnseenRelation
from bridge_jax.evaluators.retrieval import Retrieval
from bridge_jax.evaluators.semantic_similarity import SemanticSimilarity
from bridge_jax.model import Params
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


def evaluators(setup: Setup, names: Sequence[str], split: str) -> dict[str, Evaluator]:
    """Make evaluators; each checks that the dataset can answer it.

    Raises:
      InputError: an unknown evaluator, or one that the dataset has nothing for.
    """
    for name in names:
        if name not in EVALUATORS:
            raise unknown("evaluator", name, EVALUATORS, "this version")
    return {name: EVALUATORS[name](setup, split) for name in names}


def validators(setup: Setup) -> dict[str, Evaluator]:
    """What every validation asks: `retrieval`, and the config's evaluators."""
    return evaluators(setup, ("retrieval", *setup.config.evaluate.evaluators), "validation")


def validate(
    setup: Setup, params: Params, asked: Mapping[str, Evaluator] | None = None
) -> dict[str, float]:
    """Ask everything of a state of the training.

    Args:
      setup: of the run.
      params: to be asked.
      asked: `validators`; made anew unless given.

    Returns:
      `mrr` and `hits@10`, macro-averaged over a sample of the validation queries, and
      `<evaluator>/<name>` for what else the evaluators found.
    """
    scorer = setup.scorer(params)
    out = {}
    for evaluator, ask in (validators(setup) if asked is None else asked).items():
        for name, value in ask(scorer):
            out[name if name in ("mrr", "hits@10") else f"{evaluator}/{name}"] = value
    return out
