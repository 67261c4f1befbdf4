"""The picture of a report: a row for each task, a dot for each model, the macro mean on top."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bridge_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; a marker says the same again.
_SUBJECT = "#D55E00"
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777")
# One more marker than colours: 42 models before a pair comes again.
_MARKERS = ("^", "D", "s", "v", "P", "X", "p")
_LANES = (0.2, -0.2, 0.33, -0.33)
_CHANCE, _INK, _FAINT, _RULE = "#B0B0B0", "#222222", "#757575", "#E6E6E6"
_UNSURE = "#9A9A9A"
_INCHES_A_ROW = 0.5
_SUBTITLE = (
    "Mean reciprocal rank of the true neighbour among all nodes of its type (filtered); "
    "bars: 95 % over resampled heads"
)


def plot(
    tasks: Mapping[str, Mapping[str, Mapping[str, Any]]],
    macro: Mapping[str, Mapping[str, Any]],
    subject: str,
    title: str,
) -> "Figure":
    """Draw the MRR of every task and model with its 95 % interval.

    Tasks are sorted by the subject's MRR; the axis is logarithmic, so that a step is a ratio.

    Args:
      tasks: rows of `Report.by_task`.
      macro: `Report.macro`.
      subject: the model that stands out; at the right its MRR, and its lead over the best of the
        others, in grey where the lead's p-value is 0.05 or more.
      title: heads the picture.

    Returns:
      A figure that belongs to no window and no global state; `savefig` writes it.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError as e:
        raise InputError("the picture needs matplotlib: pip install matplotlib") from e
    order = sorted(tasks, key=lambda task: -tasks[task][subject]["mrr"])
    rows = [macro, *(tasks[task] for task in order)]
    styles = _styles(list(macro), subject)
    columns = min(5, len(styles))
    inches = _INCHES_A_ROW * (len(rows) + 0.4)
    more = (len(styles) - 1) // columns  # rows of the legend: a full one reaches over the headings
    raised = 0.2 if more else 0.0
    total = inches + 1.85 + 0.22 * more + raised
    figure = Figure(figsize=(11, total), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.325, 0.65 / total, 0.465, inches / total))
    ends = [r[end] for row in rows for r in row.values() for end in ("mrr", "mrr_low")]
    _frame(axes, len(rows), max(min(x for x in ends if x > 0) / 1.3, 1e-4))
    for i, row in enumerate(rows):
        _label(axes, i, order[i - 1] if i else None, row[subject])
        for name, style in styles.items():
            _dot(axes, i, row[name], style)
        _value(axes, i, row, subject)

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
    across = axes.get_yaxis_transform()
    axes.text(1.1, -0.78, subject, transform=across, ha="right", **heading)
    if len(macro) > 1:
        axes.text(1.14, -0.78, "lead over the best other", transform=across, ha="left", **heading)
        grey = heading | {"va": "top", "color": _UNSURE}
        axes.text(1.14, len(rows) - 0.5, "grey: p ≥ 0.05", transform=across, ha="left", **grey)
    for text, below_top, size, weight, colour in (
        (title, 0.36, 15, "bold", _INK),
        (_SUBTITLE, 0.64, 10, "normal", _FAINT),
    ):
        figure.text(0.02, 1 - below_top / total, text, fontsize=size, weight=weight, color=colour)
    return figure


def _styles(models: Sequence[str], subject: str) -> dict[str, dict[str, Any]]:
    """Looks by model, in the order of drawing: chance faint, the subject last and largest."""
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


def _frame(axes: "Axes", rows: int, left: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(left, 1)
    axes.set_ylim(rows - 0.4, -0.7)
    ticks = [t for t in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if t >= left]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=9, color=_FAINT)
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.grid(axis="x", color=_RULE, lw=0.8)
    axes.hlines(range(1, rows), left, 1, color="#F1F1F1", lw=0.8, zorder=0)
    axes.axhspan(-0.5, 0.5, color="#F7F2ED", zorder=0)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("MRR, logarithmic", fontsize=9, color=_FAINT)


def _label(axes: "Axes", i: int, task: str | None, row: Mapping[str, Any]) -> None:
    at = axes.get_yaxis_transform()
    if task is None:
        upper, lower = "Mean over tasks", f"{row['tasks']} tasks · {row['queries']:,} queries"
    else:
        head, *relation, tail = task.replace("_", " ").split(" → ")
        upper = f"{head} → {tail}"
        asked = f"{row['queries']:,} queries · {row['candidates']:,} candidates"
        lower = f"{' → '.join(relation)} · {asked}"
    weight = "bold" if task is None else "normal"
    look: dict[str, Any] = {"transform": at, "ha": "right", "clip_on": False}
    axes.text(-0.02, i - 0.03, upper, va="bottom", fontsize=9.5, color=_INK, weight=weight, **look)
    axes.text(-0.02, i + 0.05, lower, va="top", fontsize=7.5, color=_FAINT, **look)


def _dot(axes: "Axes", i: int, row: Mapping[str, Any], style: Mapping[str, Any]) -> None:
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


def _value(axes: "Axes", i: int, row: Mapping[str, Mapping[str, Any]], subject: str) -> None:
    """The subject's MRR, and its lead over the best of the others; faint when it may be chance."""
    look: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "fontsize": 9.5,
        "clip_on": False,
    }
    mrr = f"{row[subject]['mrr']:.3f}"
    axes.text(1.1, i, mrr, ha="right", weight="bold", color=_SUBJECT, **look)
    others = [name for name in row if name != subject]
    if others:
        best = max(others, key=lambda name: float(row[name]["mrr"]))
        rival = row[best]
        colour = _INK if rival["lead_p"] < 0.05 else _UNSURE
        lead = f"{rival['lead']:+.3f}".replace("-", "\N{MINUS SIGN}")
        lead = "±0.000" if lead.endswith("0.000") else lead
        axes.text(1.14, i, f"{lead}  {best}", ha="left", color=colour, **look)
