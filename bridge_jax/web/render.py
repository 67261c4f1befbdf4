"""Answers as they look on the page: a table in HTML, and a map of the tails around a query."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import Neighbour

# Those of `picture`; the colour-blind tell them apart.
INK, FAINT, SUBJECT, KNOWN = "#222222", "#757575", "#D55E00", "#009E73"
# Tails drawn behind the neighbours; more would only slow the browser down.
BACKGROUND = 1500

CSS = f"""
.answers, .answers th, .answers td, .answers tr {{ border: 0 !important; }}
.answers {{ border-collapse: collapse; width: 100%; font-size: 14px; color: {INK}; }}
.answers th {{ text-align: left; font-weight: 500; color: {FAINT}; padding: 4px 10px 6px;
  border-bottom: 1px solid #DDD !important; }}
.answers td {{ padding: 6px 10px; border-bottom: 1px solid #EFEFEF !important;
  vertical-align: middle; }}
.answers td.number, .answers th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.answers td.id {{ color: {FAINT}; font-family: ui-monospace, monospace; font-size: 12px;
  white-space: nowrap; }}
.answers .bar {{ display: inline-block; height: 8px; border-radius: 4px; background: {SUBJECT}; }}
.answers .badge {{ border-radius: 9px; padding: 1px 9px; font-size: 12px; white-space: nowrap;
  color: #00684C; background: #DFF3EC; }}
.answers .badge.new {{ color: #777; background: #F2F2F2; }}
.refused {{ color: {INK}; background: #FFF4E5; border-left: 4px solid {SUBJECT}; padding: 10px 14px;
  margin: 0; }}
.asked {{ font-size: 17px; color: {INK}; margin: 0 0 8px; }}
.asked b {{ color: {SUBJECT}; }}
.asked small {{ color: {FAINT}; font-size: 13px; }}
"""


def as_html(
    asked: str, detail: str, rows: Sequence[Neighbour], smiles: Mapping[str, str], marked: bool
) -> str:
    """Ranked answers as an HTML table.

    Args:
      asked: name of the query.
      detail: id of the query and what was asked about it.
      rows: the answers to one query.
      smiles: by id of an answer; drawn where there is one.
      marked: whether to say which pairs are known facts.

    Returns:
      HTML; every text from the dataset is escaped.
    """
    drawn = any(row.id in smiles for row in rows)
    scores = [row.score for row in rows]
    low, high = min(scores, default=0), max(scores, default=0)
    header = ["", "name", *(["structure"] if drawn else []), "id", "score", ""]
    header += ["fact"] if marked else []
    lines = []
    for row in rows:
        width = 12 + 88 * (row.score - low) / max(high - low, 1e-9)
        cells = [
            f'<td class="number">{row.rank}</td>',
            f"<td>{escape(row.name)}</td>",
            f'<td class="id">{escape(row.id)}</td>',
            f'<td class="number">{row.score:.3f}</td>',
            f'<td><span class="bar" style="width: {width:.0f}px"></span></td>',
        ]
        if drawn:
            cells.insert(2, f"<td>{drawing(smiles[row.id]) if row.id in smiles else ''}</td>")
        if marked:
            new = '<span class="badge new">not in the graph</span>'
            badge = f'<span class="badge">known · {row.known}</span>' if row.known else new
            cells.append(f"<td>{badge}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(
        f'<th class="number">{h}</th>' if h == "score" else f"<th>{h}</th>" for h in header
    )
    return (
        f'<p class="asked"><b>{escape(asked)}</b> <small>{escape(detail)}</small></p>'
        f'<table class="answers"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def refusal(message: str) -> str:
    """Why there is no answer, as HTML."""
    return f'<p class="refused">{escape(message)}</p>'


class Plane(NamedTuple):
    """The two directions in which a type's vectors vary most.

    Attributes:
      mean: `[width]`.
      axes: `[width, 2]`.
      shown: rows of the tails drawn in the background.
    """

    mean: np.ndarray
    axes: np.ndarray
    shown: np.ndarray


def plane(keys: Float32[np.ndarray, "count width"]) -> Plane:
    """Fit the plane of some vectors by principal components."""
    mean = keys.mean(axis=0)
    centred = keys - mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    chosen = np.random.default_rng(0).permutation(len(keys))[:BACKGROUND]
    return Plane(mean, axes[:, :-3:-1], np.sort(chosen))


def as_map(
    flat: Plane,
    keys: Float32[np.ndarray, "count width"],
    names: Sequence[str],
    query: Float32[np.ndarray, " width"],
    asked: str,
    rows: Sequence[Neighbour],
    found: Sequence[int],
    marked: bool,
) -> Any:
    """The tails, the query and its neighbours in the plane, as a Plotly figure.

    Args:
      flat: the tails' plane.
      keys: every tail's vector.
      names: one a tail.
      query: the query's vector.
      asked: name of the query.
      rows: the answers.
      found: the answers' rows of `keys`.
      marked: whether to tell known facts from the rest.

    Raises:
      InputError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as e:
        raise InputError("the map needs Plotly: pip install 'bridge_jax[serve]'") from e
    behind, near, own = (
        (x - flat.mean) @ flat.axes for x in (keys[flat.shown], keys[list(found)], query[None])
    )
    figure = go.Figure()
    plain = {"mode": "markers", "hovertemplate": "%{hovertext}<extra></extra>"}
    labelled = plain | {"mode": "markers+text", "textposition": "top center"}
    figure.add_scatter(
        x=behind[:, 0], y=behind[:, 1], hovertext=[escape(names[i]) for i in flat.shown],
        name="other nodes", marker={"size": 4, "color": "#C9C9C9"}, **plain,
    )  # fmt: skip
    rest = "not in the graph" if marked else "neighbour"
    for known, name, colour in ((True, "known fact", KNOWN), (False, rest, SUBJECT)):
        at = [i for i, row in enumerate(rows) if bool(row.known) == known]
        if at:
            figure.add_scatter(
                x=near[at, 0], y=near[at, 1], name=name,
                text=[str(rows[i].rank) for i in at], hovertext=[escape(rows[i].name) for i in at],
                marker={"size": 10, "color": colour, "line": {"width": 1, "color": "white"}},
                **labelled,
            )  # fmt: skip
    figure.add_scatter(
        x=own[:, 0], y=own[:, 1], text=[f"<b>{escape(asked)}</b>"], hovertext=[escape(asked)],
        name="query", marker={"size": 16, "color": INK, "symbol": "star"}, **labelled,
    )  # fmt: skip
    axis = {"showgrid": True, "gridcolor": "#F0F0F0", "zeroline": False, "showticklabels": False}
    figure.update_layout(
        template="none", height=430, margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis=axis, yaxis=axis,
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
    )  # fmt: skip
    return figure


@lru_cache(maxsize=4096)
def drawing(smiles: str, width: int = 160, height: int = 90) -> str:
    """A molecule as an SVG element; empty where RDKit cannot read the SMILES.

    Raises:
      InputError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError as e:
        raise InputError("drawing molecules needs RDKit: pip install 'bridge_jax[serve]'") from e
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        return ""
    canvas = rdMolDraw2D.MolDraw2DSVG(width, height)
    options: Any = canvas.drawOptions()  # as RDKit annotates it, nothing may be set
    options.clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    svg: str = canvas.GetDrawingText()
    return svg[svg.index("<svg") :]
