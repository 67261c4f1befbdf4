"""What a bridge is asked: by every validation of its training, and by `evaluate --evaluators`."""

from collections.abc import Mapping, Sequence

from bridge_jax.errors import unknown
from bridge_jax.evaluation.evaluators import EVALUATORS, Evaluator
from bridge_jax.experiment.experiment import Setup
from bridge_jax.models.bridge import Params


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
    """What every validation asks: `retrieval`, and the config's; none without a query."""
    if not any(len(asked.heads) for asked in setup.queries["validation"].values()):
        return {}
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
