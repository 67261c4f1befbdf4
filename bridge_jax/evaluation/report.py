"""Reports: tables, files and a plot of how several models rank the same queries."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.evaluation.plots import plot
from bridge_jax.evaluation.ranking import (
    Ranks,
    bootstrap_mrr,
    confidence_interval,
    metrics,
    mrr_by_degree,
    paired_p_value,
    pool,
)
from bridge_jax.evaluation.tasks import describe_left_out, select_tasks
from bridge_jax.formatting import markdown_table, text_table

Row = dict[str, Any]
RanksByTask = Mapping[TripleType, Ranks]

_MACRO_COLUMNS = {
    "mrr": "MRR",
    "hits@1": "Hits@1",
    "hits@3": "Hits@3",
    "hits@10": "Hits@10",
    "amri": "AMRI",
    "adjusted_mrr": "adjusted MRR",
    "mrr_by_head": "MRR by head",
    "ndcg@10": "nDCG@10",
    "recall@50": "recall@50",
    "micro_mrr": "micro MRR",
}
_NOTE = (
    "Filtered ranks among all nodes of the tail type; a tie counts half. Candidates: mean over "
    "queries, after filtering. Brackets: 95 % of 1,000 bootstrap draws of whole heads, separately "
    "for each task. Macro: mean over tasks; cross-modal: over tasks between two node types; micro: "
    "all queries pooled. Clearly: p < 0.05 in the paired bootstrap of a task, not corrected for "
    "the number of tasks."
)


@dataclass(frozen=True)
class Report:
    """Results of several models, as `results.json` holds them.

    Attributes:
      rows: One row per task and model, tasks in the order of the graph.
      macro: Means over tasks by model, and the metrics of the pooled queries as `micro_...`.
      cross: The same over the cross-modal tasks, between two node types; empty if all tasks are
        cross-modal or none is.
      about: Metadata; `subject` is the name of the model under test, `left_out` the reason for
        each task without a row.
    """

    rows: list[Row]
    macro: dict[str, Row]
    cross: dict[str, Row]
    about: dict[str, Any]

    @property
    def subject(self) -> str:
        """Name of the model under test."""
        return str(self.about["subject"])

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the table."""
        return list(self.macro)

    def by_task(self) -> dict[str, dict[str, Row]]:
        """Returns the rows by task, then by model."""
        tasks: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            tasks.setdefault(row["task"], {})[row["model"]] = row
        return tasks


def build(
    results: Mapping[str, RanksByTask],
    *,
    subject: str | None = None,
    train: Mapping[TripleType, Pairs] | None = None,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Report:
    """Builds a report from ranks.

    A row has the metrics of `bridge_jax.evaluation.ranking.metrics` and

    - `queries`, `heads` and the mean number of `candidates`;
    - `mrr_low` and `mrr_high`, a 95 % confidence interval;
    - for all models but the subject, `lead`, `lead_low`, `lead_high` and `lead_p`: the subject's
      MRR minus the model's on the same queries, its interval, and the two-sided p-value of a zero
      difference (paired bootstrap; not corrected for the number of tasks).

    A task with a single head has no interval (NaN, null in JSON).

    Args:
      results: Ranks by model, then by triple type; all models have the same queries. Triple types
        without a query, or with fewer than two candidates, are left out.
      subject: Model under test, default: the last one.
      train: Training pairs by triple type. If given, rows also have `mrr_degree_...`: the MRR by
        the number of training facts of the true tail.
      about: Metadata to store in the report.
      seed: Seed of the bootstrap, default 0.

    Raises:
      InputError: No task has a query with at least two candidates, the subject is unknown, or the
        models answered different queries.
    """
    subject = list(results)[-1] if subject is None else subject
    triple_types, left_out = select_tasks(results, subject, train)
    table = _Table(results, subject, triple_types, train, seed)
    rows = [table.row(triple_type, name) for triple_type, name in product(triple_types, results)]
    cross_modal = [k for k in triple_types if k.head != k.tail]
    some_cross_modal = 0 < len(cross_modal) < len(triple_types)
    cross = table.means(cross_modal, rows) if some_cross_modal else {}
    macro = table.means(triple_types, rows)
    about = {**(about or {}), "subject": subject, "left_out": left_out}
    return Report(rows, macro, cross, about)


class _Table:
    """Computes the rows of a report; metrics and bootstrap draws are computed once."""

    def __init__(
        self,
        results: Mapping[str, RanksByTask],
        subject: str,
        triple_types: Sequence[TripleType],
        train: Mapping[TripleType, Pairs] | None,
        seed: int,
    ) -> None:
        self._results, self._subject, self._train = results, subject, train
        self._metrics = {
            name: {k: metrics(ranks[k]) for k in triple_types} for name, ranks in results.items()
        }
        self._draws = {
            k: bootstrap_mrr([ranks[k] for ranks in results.values()], str(k), seed=seed)
            for k in triple_types
        }

    def row(self, triple_type: TripleType, name: str) -> Row:
        """Returns the row of one task and model."""
        ranks = self._results[name][triple_type]
        num_heads = len(np.unique(ranks.heads))
        values = {n: by_task[triple_type] for n, by_task in self._metrics.items()}
        return {
            "task": str(triple_type),
            "model": name,
            "queries": len(ranks),
            "heads": num_heads,
            "candidates": round(float(ranks.candidates.mean())),
            **self._with_intervals(name, values, self._draws[triple_type], num_heads),
            **(_degree_columns(ranks, self._train[triple_type]) if self._train else {}),
        }

    def means(self, triple_types: Sequence[TripleType], rows: Sequence[Row]) -> dict[str, Row]:
        """Returns the means over some tasks and the pooled metrics, by model."""
        means = {
            name: {m: _mean(by_task[k][m] for k in triple_types) for m in by_task[triple_types[0]]}
            for name, by_task in self._metrics.items()
        }
        draws = np.mean([self._draws[k] for k in triple_types], axis=0)
        tasks, out = {str(k) for k in triple_types}, {}
        for name, ranks in self._results.items():
            task_rows = [r for r in rows if r["model"] == name and r["task"] in tasks]
            num_heads = sum(r["heads"] for r in task_rows)
            pooled = metrics(pool(ranks[k] for k in triple_types))
            out[name] = {
                "tasks": len(triple_types),
                "queries": sum(r["queries"] for r in task_rows),
                "heads": num_heads,
                "candidates": round(_mean(r["candidates"] for r in task_rows)),
                **self._with_intervals(name, means, draws, num_heads),
                **{f"micro_{metric}": value for metric, value in pooled.items()},
                **(_pooled_degree_columns(task_rows) if self._train else {}),
            }
        return out

    def _with_intervals(
        self, name: str, values: Mapping[str, Row], draws: np.ndarray, num_heads: int
    ) -> Row:
        """Returns a model's metrics, the interval of its MRR, and the subject's lead over it.

        Args:
          name: Name of the model.
          values: Metrics of all models.
          draws: Bootstrap draws of the MRR, a column per model.
          num_heads: Number of heads behind the draws.
        """
        draws_of = dict(zip(values, draws.T, strict=True))
        undefined = (math.nan, math.nan)
        low, high = confidence_interval(draws_of[name]) if num_heads > 1 else undefined
        row = {"mrr": values[name]["mrr"], "mrr_low": low, "mrr_high": high, **values[name]}
        if name != self._subject:
            lead = draws_of[self._subject] - draws_of[name]
            row["lead"] = values[self._subject]["mrr"] - values[name]["mrr"]
            interval = confidence_interval(lead) if num_heads > 1 else undefined
            row["lead_low"], row["lead_high"] = interval
            row["lead_p"] = paired_p_value(lead) if num_heads > 1 else math.nan
        return row


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _degree_columns(ranks: Ranks, train: Pairs) -> Row:
    size = max(int(a.max(initial=0)) for a in (train.tails, ranks.tails)) + 1
    degree = np.bincount(train.tails, minlength=size)
    columns: Row = {}
    for band, (num_queries, mrr) in mrr_by_degree(ranks, degree).items():
        columns |= {f"queries_degree_{band}": num_queries, f"mrr_degree_{band}": mrr}
    return columns


def _pooled_degree_columns(rows: Sequence[Row]) -> Row:
    columns: Row = {}
    for queries in (k for k in rows[0] if k.startswith("queries_degree_")):
        mrr = queries.replace("queries", "mrr")
        num_queries = sum(r[queries] for r in rows)
        total = sum(r[queries] * r[mrr] for r in rows if r[queries])
        columns |= {
            f"micro_{queries}": num_queries,
            f"micro_{mrr}": total / num_queries if num_queries else math.nan,
        }
    return columns


def as_text(report: Report) -> str:
    """Formats the report for a terminal; the best MRR of each task has a star."""
    mrr = text_table(
        _task_rows(report, _mrr, ("", "*")),
        ["MRR by task", "queries", "candidates", *report.models],
    )
    macro = text_table(_macro_rows(report), ["macro", *_MACRO_COLUMNS.values()])
    leads = [text_table(*_lead_table(report))] if len(report.models) > 1 else []
    left_out = describe_left_out(report.about.get("left_out", {}))
    return "\n\n".join([mrr, macro, *leads, *filter(None, [left_out])])


def as_markdown(report: Report) -> str:
    """Formats the report as Markdown, with 95 % intervals; the best MRR of each task is bold."""
    rows = _task_rows(report, _mrr_with_interval, ("**", "**"))
    sections = [
        "# Link prediction",
        "\n".join(
            f"- {k}: {v}" for k, v in report.about.items() if isinstance(v, str | int | float)
        ),
        "## MRR by task",
        markdown_table(rows, ["task", "queries", "candidates", *report.models]),
        "## Means over tasks",
        markdown_table(_macro_rows(report), ["model", *_MACRO_COLUMNS.values()]),
    ]
    if len(report.models) > 1:
        sections += [
            f"## Lead of {report.subject} over the other models",
            markdown_table(*_lead_table(report)),
        ]
    bands = [k for k in report.macro[report.subject] if k.startswith("micro_mrr_degree_")]
    if bands:
        names = [k.removeprefix("micro_mrr_degree_") for k in bands]
        num_queries = [report.macro[report.subject][k.replace("mrr", "queries")] for k in bands]
        sections += [
            "## Micro MRR by the number of training facts of the true tail",
            markdown_table(
                [["queries", *num_queries]]
                + [[m, *(report.macro[m][k] for k in bands)] for m in report.models],
                ["model", *names],
            ),
        ]
    left_out = describe_left_out(report.about.get("left_out", {}))
    return "\n\n".join([*sections, *filter(None, [left_out]), _NOTE]) + "\n"


def _mrr(row: Row) -> str:
    return f"{row['mrr']:.3f}"


def _mrr_with_interval(row: Row) -> str:
    return f"{row['mrr']:.3f} [{row['mrr_low']:.3f}, {row['mrr_high']:.3f}]"


def _task_rows(
    report: Report, format_mrr: Callable[[Row], str], mark: tuple[str, str]
) -> list[list[Any]]:
    """Returns task, queries, candidates and the MRR of every model, then the macro means.

    Args:
      report: The report.
      format_mrr: Formats the MRR of a row.
      mark: Text before and after the best MRR of a task.
    """

    def cells(rows: Mapping[str, Row]) -> list[str]:
        best = max(r["mrr"] for r in rows.values())
        left, right = mark
        return [
            f"{left}{format_mrr(r)}{right}" if r["mrr"] == best else format_mrr(r)
            for r in rows.values()
        ]

    table: list[list[Any]] = []
    for task, rows in report.by_task().items():
        row = rows[report.subject]
        table.append([task, row["queries"], row["candidates"], *cells(rows)])
    for name, means in (("macro, cross-modal", report.cross), ("macro", report.macro)):
        if means:
            row = means[report.subject]
            table.append([name, row["queries"], row["candidates"], *cells(means)])
    return table


def _macro_rows(report: Report) -> list[list[Any]]:
    return [[m, *(float(report.macro[m][k]) for k in _MACRO_COLUMNS)] for m in report.models]


def _lead_table(report: Report) -> tuple[list[list[Any]], list[str]]:
    """Returns rows and header: the subject's lead over each model, and its wins and losses."""
    cross_columns = ["cross-modal", "p"] if report.cross else []
    header = ["lead in macro MRR", "p", *cross_columns, "clearly ahead", "clearly behind", "tasks"]
    rows: list[list[Any]] = []
    for name, means in report.macro.items():
        if name != report.subject:
            tasks = [by_model[name] for by_model in report.by_task().values()]
            signs = [math.copysign(1, r["lead"]) for r in tasks if r["lead_p"] < 0.05]
            leads = [*_lead(means), *(_lead(report.cross[name]) if report.cross else ())]
            rows.append([name, *leads, signs.count(1), signs.count(-1), len(tasks)])
    return rows, [f"{report.subject} vs.", *header]


def _lead(row: Row) -> tuple[str, str]:
    """Formats the subject's lead with its interval, and its p-value."""
    interval = f"[{row['lead_low']:+.3f}, {row['lead_high']:+.3f}]"
    return f"{row['lead']:+.3f} {interval}", f"{row['lead_p']:.3f}"


def publish(report: Report, folder: Path) -> str:
    """Writes all files of a report and returns its text, with the paths of the files.

    Args:
      report: The report.
      folder: Folder to write; created if missing.
    """
    write(report, folder)
    return f"{as_text(report)}\n\nwritten to {folder}/results.{{json,csv,md,png}}"


def write(report: Report, folder: str | Path) -> None:
    """Writes `results.json`, `.csv`, `.md` and `.png`, each atomically.

    Args:
      report: The report.
      folder: Folder to write, e.g. `runs/demo/eval/test`; created if missing.
    """
    folder = Path(folder)
    content = _to_json(asdict(report))
    write_json(folder / "results.json", content)
    columns = list(dict.fromkeys(key for row in content["rows"] for key in row))
    with atomic_file(folder / "results.csv") as path, open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(content["rows"])
    with atomic_file(folder / "results.md") as path:
        path.write_text(as_markdown(report))
    # The plot is last: it fails if matplotlib is missing.
    names = [str(report.about[k]) for k in ("dataset", "split") if k in report.about]
    title = " · ".join(["Link prediction", *names])
    with atomic_file(folder / "results.png") as path:
        plot(report.by_task(), report.macro, report.subject, title).savefig(path, format="png")


def _to_json(value: Any) -> Any:
    """Converts to JSON values: no NumPy numbers, and null for NaN."""
    if isinstance(value, dict):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
