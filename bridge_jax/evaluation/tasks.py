"""The tasks of a report: triple types whose queries can be ranked, and those that are left out."""

from collections.abc import Mapping

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation.ranking import Ranks, has_choice

NO_QUERY = "no query: its held-out part is empty"
ONE_CANDIDATE = "fewer than two candidates"
_MAX_NAMED = 5


def select_tasks(
    results: Mapping[str, Mapping[TripleType, Ranks]],
    subject: str,
    train: Mapping[TripleType, Pairs] | None = None,
) -> tuple[list[TripleType], dict[str, str]]:
    """Selects the tasks that say something about a model.

    Args:
      results: Ranks by model, then by triple type.
      subject: Model under test.
      train: Training pairs by triple type, or None; the triple types of the graph.

    Returns:
      The tasks, and the reason why each of the others is left out.

    Raises:
      InputError: No task is left, the subject is unknown, or a model did not answer a task.
    """
    if subject not in results:
        raise unknown("model", subject, results, "these results")
    tasks, left_out = [], {}
    for triple_type, ranks in results[subject].items():
        if not len(ranks):
            left_out[str(triple_type)] = NO_QUERY
        elif not has_choice(ranks):
            left_out[str(triple_type)] = ONE_CANDIDATE
        else:
            tasks.append(triple_type)
    for triple_type in train or ():
        if triple_type not in results[subject]:
            left_out[str(triple_type)] = NO_QUERY
    if not tasks:
        if ONE_CANDIDATE in left_out.values():
            raise InputError("there is nothing to rank: every task has fewer than two candidates")
        raise InputError("there is no query to report on: the split is empty")
    for name, by_task in results.items():
        if missing := [str(k) for k in tasks if k not in by_task]:
            raise InputError(f"model {name!r} has no ranks for {missing[0]}")
    return tasks, left_out


def describe_left_out(left_out: Mapping[str, str]) -> str:
    """Formats the tasks that are left out, by reason; "" if there is none.

    Args:
      left_out: Reason by task.
    """
    parts = []
    for reason in dict.fromkeys(left_out.values()):
        names = [task for task, r in left_out.items() if r == reason]
        more = f", … ({len(names)} in all)" if len(names) > _MAX_NAMED else ""
        parts.append(f"{reason}: {', '.join(names[:_MAX_NAMED])}{more}")
    return "Left out of all means: " + "; ".join(parts) if parts else ""
