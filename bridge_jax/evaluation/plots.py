"""Plot of a report: a row per task, a dot per model, the macro mean on top."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bridge_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which are safe for colour-blind readers; markers are redundant with them.
_SUBJECT = "#D55E00"
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777")
# One more marker than colours, so that 42 models have different looks.
_MARKERS = ("^", "D", "s", "v", "P", "X", "p")
_LANES = (0.2, -0.2, 0.33, -0.33)
_CHANCE, _INK, _FAINT, _RULE = "#B0B0B0", "#222222", "#757575", "#E6E6E6"
_NOT_SIGNIFICANT = "#9A9A9A"
_INCHES_PER_ROW = 0.5
_SUBTITLE = (
    "Filtered mean reciprocal rank of the true tail among all nodes of its type; "
    "bars: 95 % over resampled heads"
)


def plot(
    tasks: Mapping[str, Mapping[str, Mapping[str, Any]]],
    macro: Mapping[str, Mapping[str, Any]],
    subject: str,
    title: str,
) -> "Figure":
    """Plots the MRR of every task and model with its 95 % interval.

    Tasks are sorted by the subject's MRR. The axis is logarithmic, so that equal distances are
    equal ratios.

    Args:
      tasks: Rows by task and model, as `Report.by_task` returns them.
      macro: Means by model, `Report.macro`.
      subject: Model under test, which is highlighted. On the right are its MRR and its lead over
        the best other model, in grey if the lead's p-value is 0.05 or more.
      title: Title of the plot.

    Returns:
      A figure without a window or global state; write it with `savefig`.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError as e:
        raise InputError("the plot needs matplotlib: pip install matplotlib") from e
    order = sorted(tasks, key=lambda task: -tasks[task][subject]["mrr"])
    rows = [macro, *(tasks[task] for task in order)]
    styles = _styles(list(macro), subject)
    columns = min(5, len(styles))
    inches = _INCHES_PER_ROW * (len(rows) + 0.4)
    extra_rows = (len(styles) - 1) // columns  # of the legend, which must clear the headings
    raised = 0.2 if extra_rows else 0.0
    total = inches + 1.85 + 0.22 * extra_rows + raised
    figure = Figure(figsize=(11, total), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.325, 0.65 / total, 0.465, inches / total))
    ends = [r[end] for row in rows for r in row.values() for end in ("mrr", "mrr_low")]
    _draw_frame(axes, len(rows), max(min(x for x in ends if x > 0) / 1.3, 1e-4))
    for i, row in enumerate(rows):
        _draw_label(axes, i, order[i - 1] if i else None, row[subject])
        for name, style in styles.items():
            _draw_dot(axes, i, row[name], style)
        _draw_lead(axes, i, row, subject)

    handles = [
        Line2D([], [], color=s["color"], marker=s["marker"], markersize=s["size"], label=name, lw=0)
        for name, s in reversed(styles.items())
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.03, 1.0 + raised / inches),
        ncols=columns,
        frameon=False,
        fontsize=10,
        handletextpad=0.1,
        columnspacing=1.3,
    )
    heading: dict[str, Any] = {"fontsize": 8.5, "color": _FAINT, "va": "bottom", "clip_on": False}
    beside = axes.get_yaxis_transform()
    axes.text(1.1, -0.78, subject, transform=beside, ha="right", **heading)
    if len(macro) > 1:
        axes.text(1.14, -0.78, "lead over the best other", transform=beside, ha="left", **heading)
        grey = heading | {"va": "top", "color": _NOT_SIGNIFICANT}
        axes.text(1.14, len(rows) - 0.5, "grey: p ≥ 0.05", transform=beside, ha="left", **grey)
    for text, below_top, size, weight, colour in (
        (title, 0.36, 15, "bold", _INK),
        (_SUBTITLE, 0.64, 10, "normal", _FAINT),
    ):
        figure.text(0.02, 1 - below_top / total, text, fontsize=size, weight=weight, color=colour)
    return figure


def _styles(models: Sequence[str], subject: str) -> dict[str, dict[str, Any]]:
    """Returns the style of each model, in drawing order: random faint, the subject on top."""
    others = [m for m in models if m not in (subject, "random")]
    out: dict[str, dict[str, Any]] = {}
    if "random" in models and subject != "random":
        out["random"] = {"color": _CHANCE, "marker": "|", "size": 7, "width": 0, "lane": 0}
    for i, name in reversed(list(enumerate(reversed(others)))):
        out[name] = {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "size": 5.5,
            "width": 1.4,
            "lane": _LANES[i % len(_LANES)],
        }
    out[subject] = {"color": _SUBJECT, "marker": "o", "size": 9.5, "width": 2.8, "lane": 0}
    return out


def _draw_frame(axes: "Axes", num_rows: int, left: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(left, 1)
    axes.set_ylim(num_rows - 0.4, -0.7)
    ticks = [t for t in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if t >= left]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=9, color=_FAINT)
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.grid(axis="x", color=_RULE, lw=0.8)
    axes.hlines(range(1, num_rows), left, 1, color="#F1F1F1", lw=0.8, zorder=0)
    axes.axhspan(-0.5, 0.5, color="#F7F2ED", zorder=0)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("MRR, logarithmic", fontsize=9, color=_FAINT)


def _draw_label(axes: "Axes", i: int, task: str | None, row: Mapping[str, Any]) -> None:
    if task is None:
        upper, lower = "Mean over tasks", f"{row['tasks']} tasks · {row['queries']:,} queries"
    else:
        head, *relation, tail = task.replace("_", " ").split(" → ")
        upper = f"{head} → {tail}"
        size = f"{row['queries']:,} queries · {row['candidates']:,} candidates"
        lower = f"{' → '.join(relation)} · {size}"
    weight = "bold" if task is None else "normal"
    style: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "ha": "right",
        "clip_on": False,
    }
    axes.text(-0.02, i - 0.03, upper, va="bottom", fontsize=9.5, color=_INK, weight=weight, **style)
    axes.text(-0.02, i + 0.05, lower, va="top", fontsize=7.5, color=_FAINT, **style)


def _draw_dot(axes: "Axes", i: int, row: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    y, colour = i + style["lane"], style["color"]
    if style["width"]:
        ends = [row["mrr_low"], row["mrr_high"]]
        axes.plot(ends, [y, y], color=colour, lw=style["width"], alpha=0.6, solid_capstyle="round")
    hollow = style["marker"] == "|"
    axes.plot(
        row["mrr"],
        y,
        style["marker"],
        color=colour,
        markersize=style["size"],
        markeredgecolor=colour if hollow else "white",
        markeredgewidth=1.4 if hollow else 0.8,
    )


def _draw_lead(axes: "Axes", i: int, row: Mapping[str, Mapping[str, Any]], subject: str) -> None:
    """Writes the subject's MRR and its lead over the best other model beside a row."""
    style: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "fontsize": 9.5,
        "clip_on": False,
    }
    mrr = f"{row[subject]['mrr']:.3f}"
    axes.text(1.1, i, mrr, ha="right", weight="bold", color=_SUBJECT, **style)
    others = [name for name in row if name != subject]
    if others:
        best = max(others, key=lambda name: float(row[name]["mrr"]))
        colour = _INK if row[best]["lead_p"] < 0.05 else _NOT_SIGNIFICANT
        lead = f"{row[best]['lead']:+.3f}".replace("-", "\N{MINUS SIGN}")
        lead = "±0.000" if lead.endswith("0.000") else lead
        axes.text(1.14, i, f"{lead}  {best}", ha="left", color=colour, **style)
