"""Tables of how several models rank the same queries, for people and for programs."""

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
from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation.plots import plot
from bridge_jax.evaluation.ranking import (
    Ranks,
    bootstrap,
    by_degree,
    interval,
    join,
    metrics,
    two_sided,
)
from bridge_jax.formatting import markdown_table, text_table

Row = dict[str, Any]

_MACRO = {
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
    "Filtered ranks among all nodes of the tail type, a tie counting half. Candidates: the mean "
    "over queries, after filtering. Brackets: 95 % of 1,000 bootstrap draws of whole heads, each "
    "task on its own. Macro: the mean over tasks; cross-modal: over those between two node types; "
    "micro: all queries pooled. Clearly: p < 0.05 in the paired bootstrap of a task, not corrected "
    "for the number of tasks."
)


@dataclass(frozen=True)
class Report:
    """What `results.json` holds.

    Attributes:
      rows: one for each task and model, tasks in the order of the graph.
      macro: for each model the means over tasks, and the pooled figures as `micro_...`.
      cross: the same over the cross-modal tasks alone, between two types; empty if all or none are.
      about: how the figures came about; `subject` names the model under test.
    """

    rows: list[Row]
    macro: dict[str, Row]
    cross: dict[str, Row]
    about: dict[str, Any]

    @property
    def subject(self) -> str:
        """The model under test."""
        return str(self.about["subject"])

    @property
    def models(self) -> list[str]:
        """The models, in the order given."""
        return list(self.macro)

    def by_task(self) -> dict[str, dict[str, Row]]:
        """Rows by task, then model."""
        out: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            out.setdefault(row["task"], {})[row["model"]] = row
        return out


def build(
    results: Mapping[str, Mapping[TripleType, Ranks]],
    *,
    subject: str | None = None,
    train: Mapping[TripleType, Pairs] | None = None,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Report:
    """Turn ranks into rows.

    Besides the figures of `ranking.metrics` a row has `queries`, `heads` and (mean) `candidates`;
    `mrr_low` and `mrr_high`, a 95 % interval; and, but for the subject's own, `lead`, `lead_low`,
    `lead_high` and `lead_p`: by how much MRR the subject is ahead of the row's model on the same
    queries, with the two-sided p-value of no difference (paired bootstrap; not corrected for the
    number of tasks). A task with a single head has no interval (NaN, null in JSON).

    Args:
      results: for each model the ranks of each triple type, of the same queries for all.
        Triple types without a query are left out.
      subject: the model under test; the last one unless given.
      train: training pairs, for `mrr_degree_...`: MRR by how many training facts of the triple
        type the true tail has.
      about: passed through.
      seed: of the bootstrap.

    Raises:
      InputError: no query at all, an unknown subject, or models that answered different queries.
    """
    names = list(results)
    subject = names[-1] if subject is None else subject
    if subject not in results:
        raise unknown("model", subject, names, "these results")
    triple_types = [k for k, ranks in results[subject].items() if len(ranks)]
    if not triple_types:
        raise InputError("there is no query to report on; is the split empty?")
    for name in names:
        if missing := [str(k) for k in triple_types if k not in results[name]]:
            raise InputError(f"model {name!r} has no ranks for {missing[0]}")

    found = {n: {k: metrics(results[n][k]) for k in triple_types} for n in names}
    draws = {k: bootstrap([results[n][k] for n in names], str(k), seed=seed) for k in triple_types}
    rows = []
    for triple_type, name in product(triple_types, names):
        ranks = results[name][triple_type]
        heads = len(np.unique(ranks.heads))
        rows.append(
            {
                "task": str(triple_type),
                "model": name,
                "queries": len(ranks),
                "heads": heads,
                "candidates": round(float(ranks.candidates.mean())),
                **_compared(
                    name,
                    subject,
                    {n: found[n][triple_type] for n in names},
                    draws[triple_type],
                    heads,
                ),
                **(_degrees(ranks, train[triple_type]) if train else {}),
            }
        )

    def means(triple_types: Sequence[TripleType]) -> dict[str, Row]:
        over = {
            n: {m: _mean(found[n][k][m] for k in triple_types) for m in found[n][triple_types[0]]}
            for n in names
        }
        drawn = np.mean([draws[k] for k in triple_types], axis=0)
        tasks, out = {str(k) for k in triple_types}, {}
        for name in names:
            own = [r for r in rows if r["model"] == name and r["task"] in tasks]
            heads = sum(r["heads"] for r in own)
            pooled = metrics(join(results[name][k] for k in triple_types))
            out[name] = {
                "tasks": len(triple_types),
                "queries": sum(r["queries"] for r in own),
                "heads": heads,
                "candidates": round(_mean(r["candidates"] for r in own)),
                **_compared(name, subject, over, drawn, heads),
                **{f"micro_{metric}": value for metric, value in pooled.items()},
                **(_pooled_degrees(own) if train else {}),
            }
        return out

    across = [k for k in triple_types if k.head != k.tail]
    cross = means(across) if 0 < len(across) < len(triple_types) else {}
    return Report(rows, means(triple_types), cross, {**(about or {}), "subject": subject})


def _compared(
    name: str, subject: str, found: Mapping[str, Row], draws: np.ndarray, heads: int
) -> Row:
    """A model's figures with the interval of its MRR, and the subject's lead over it."""
    own = dict(zip(found, draws.T, strict=True))
    unknown = (math.nan, math.nan)
    low, high = interval(own[name]) if heads > 1 else unknown
    out = {"mrr": found[name]["mrr"], "mrr_low": low, "mrr_high": high, **found[name]}
    if name != subject:
        ahead = own[subject] - own[name]
        out["lead"] = found[subject]["mrr"] - found[name]["mrr"]
        out["lead_low"], out["lead_high"] = interval(ahead) if heads > 1 else unknown
        out["lead_p"] = two_sided(ahead) if heads > 1 else math.nan
    return out


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _degrees(ranks: Ranks, train: Pairs) -> Row:
    size = max(int(a.max(initial=0)) for a in (train.tails, ranks.tails)) + 1
    out: Row = {}
    for band, (queries, mrr) in by_degree(ranks, np.bincount(train.tails, minlength=size)).items():
        out |= {f"queries_degree_{band}": queries, f"mrr_degree_{band}": mrr}
    return out


def _pooled_degrees(rows: Sequence[Row]) -> Row:
    out: Row = {}
    for key in (k for k in rows[0] if k.startswith("queries_degree_")):
        value = key.replace("queries", "mrr")
        queries = sum(r[key] for r in rows)
        total = sum(r[key] * r[value] for r in rows if r[key])
        out |= {f"micro_{key}": queries, f"micro_{value}": total / queries if queries else math.nan}
    return out


def as_text(report: Report) -> str:
    """The report for a terminal; the best MRR of a row is starred."""
    best = ("", "*")
    mrr = text_table(
        _tasks(report, _short, best), ["MRR by task", "queries", "candidates", *report.models]
    )
    macro = text_table(_macro(report), ["macro", *_MACRO.values()])
    leads = text_table(*_leads(report))
    return "\n\n".join([mrr, macro] + [leads] * (len(report.models) > 1))


def asmarkdown_table(report: Report) -> str:
    """The report for a page; the best MRR of a row is bold, with 95 % intervals."""
    rows = _tasks(report, _with_interval, ("**", "**"))
    parts = [
        "# How well held-out neighbours are ranked",
        "\n".join(
            f"- {k}: {v}" for k, v in report.about.items() if isinstance(v, str | int | float)
        ),
        "## MRR by task",
        markdown_table(rows, ["task", "queries", "candidates", *report.models]),
        "## Means over tasks",
        markdown_table(_macro(report), ["model", *_MACRO.values()]),
    ]
    if len(report.models) > 1:
        parts += [
            f"## {report.subject} beside the others",
            markdown_table(*_leads(report)),
        ]
    bands = [k for k in report.macro[report.subject] if k.startswith("micro_mrr_degree_")]
    if bands:
        names = [k.removeprefix("micro_mrr_degree_") for k in bands]
        counts = [report.macro[report.subject][k.replace("mrr", "queries")] for k in bands]
        parts += [
            "## Micro MRR by the training facts of the true tail",
            markdown_table(
                [["queries", *counts]]
                + [[m, *(report.macro[m][k] for k in bands)] for m in report.models],
                ["model", *names],
            ),
        ]
    return "\n\n".join([*parts, _NOTE]) + "\n"


def _short(row: Row) -> str:
    return f"{row['mrr']:.3f}"


def _with_interval(row: Row) -> str:
    return f"{row['mrr']:.3f} [{row['mrr_low']:.3f}, {row['mrr_high']:.3f}]"


def _tasks(report: Report, cell: Callable[[Row], str], best: tuple[str, str]) -> list[list[Any]]:
    """Task, queries, candidates and every model's MRR; then the macro row."""

    def cells(rows: Mapping[str, Row]) -> list[str]:
        top = max(r["mrr"] for r in rows.values())
        left, right = best
        return [f"{left}{cell(r)}{right}" if r["mrr"] == top else cell(r) for r in rows.values()]

    out: list[list[Any]] = []
    for task, rows in report.by_task().items():
        row = rows[report.subject]
        out.append([task, row["queries"], row["candidates"], *cells(rows)])
    for name, means in (("macro, cross-modal", report.cross), ("macro", report.macro)):
        if means:
            total = means[report.subject]
            out.append([name, total["queries"], total["candidates"], *cells(means)])
    return out


def _macro(report: Report) -> list[list[Any]]:
    return [[m, *(float(report.macro[m][k]) for k in _MACRO)] for m in report.models]


def _leads(report: Report) -> tuple[list[list[Any]], list[str]]:
    """The subject's lead over every other model, the tasks that it wins and loses; a header."""
    across = ["cross-modal", "p"] if report.cross else []
    header = ["macro MRR", "p", *across, "clearly ahead", "clearly behind", "tasks"]
    out: list[list[Any]] = []
    for name, row in report.macro.items():
        if name != report.subject:
            tasks = [rows[name] for rows in report.by_task().values()]
            clear = [math.copysign(1, r["lead"]) for r in tasks if r["lead_p"] < 0.05]
            leads = [*_lead(row), *(_lead(report.cross[name]) if report.cross else ())]
            out.append([name, *leads, clear.count(1), clear.count(-1), len(tasks)])
    return out, [f"{report.subject} ahead of", *header]


def _lead(row: Row) -> tuple[str, str]:
    """The subject's lead with its interval, and its p-value."""
    between = f"[{row['lead_low']:+.3f}, {row['lead_high']:+.3f}]"
    return f"{row['lead']:+.3f} {between}", f"{row['lead_p']:.3f}"


def publish(report: Report, folder: Path) -> str:
    """Writes all files of a report; returns what to print about it."""
    write(report, folder)
    return f"{as_text(report)}\n\nwritten to {folder}/results.{{json,csv,md,png}}"


def write(report: Report, folder: str | Path) -> None:
    """Write `results.json`, `.csv`, `.md` and `.png`, each atomically.

    Args:
      report: what to write.
      folder: made if need be, e.g. `runs/demo/eval/test`.
    """
    folder = Path(folder)
    plain = _plain(asdict(report))
    write_json(folder / "results.json", plain)
    columns = list(dict.fromkeys(key for row in plain["rows"] for key in row))
    with atomic_file(folder / "results.csv") as path, open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain["rows"])
    with atomic_file(folder / "results.md") as path:
        path.write_text(asmarkdown_table(report))
    # Last: it is the one that can fail for want of a package.
    where = [str(report.about[k]) for k in ("dataset", "split") if k in report.about]
    title = " · ".join(["Finding held-out neighbours", *where])
    with atomic_file(folder / "results.png") as path:
        plot(report.by_task(), report.macro, report.subject, title).savefig(path, format="png")


def _plain(value: Any) -> Any:
    """JSON values alone: no NumPy numbers, and null for NaN."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
