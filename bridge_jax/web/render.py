"""Rendering of results: HTML table, map of the projected space, drawings of molecules."""

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import Neighbour, as_csv

# Okabe and Ito's colours, which are safe for colour-blind readers.
INK, FAINT, HIGHLIGHT, KNOWN = "#222222", "#757575", "#D55E00", "#009E73"
# Tails drawn behind the results; more would only slow the browser down.
MAX_BACKGROUND_POINTS = 1500

CSS = f"""
.results-table, .results-table th, .results-table td, .results-table tr {{ border: 0 !important; }}
.results-table {{ border-collapse: collapse; width: 100%; font-size: 14px; color: {INK}; }}
.results-table th {{ text-align: left; font-weight: 500; color: {FAINT}; padding: 4px 10px 6px;
  border-bottom: 1px solid #DDD !important; }}
.results-table td {{ padding: 6px 10px; border-bottom: 1px solid #EFEFEF !important;
  vertical-align: middle; }}
.results-table td.number, .results-table th.number {{ text-align: right;
  font-variant-numeric: tabular-nums; }}
.results-table td.id {{ color: {FAINT}; font-family: ui-monospace, monospace; font-size: 12px;
  white-space: nowrap; }}
.results-table .bar {{ display: inline-block; height: 8px; border-radius: 4px;
  background: {HIGHLIGHT}; }}
.results-table .badge {{ border-radius: 9px; padding: 1px 9px; font-size: 12px; white-space: nowrap;
  color: #00684C; background: #DFF3EC; }}
.results-table .badge.new {{ color: #777; background: #F2F2F2; }}
.results-error {{ color: {INK}; background: #FFF4E5; border-left: 4px solid {HIGHLIGHT};
  padding: 10px 14px; margin: 0; }}
.results-download {{ float: right; font-size: 13px; color: {FAINT} !important; }}
.results-title {{ font-size: 17px; color: {INK}; margin: 0 0 8px; }}
.results-title b {{ color: {HIGHLIGHT}; }}
.results-title small {{ color: {FAINT}; font-size: 13px; }}
"""


def results_as_html(
    query: str,
    detail: str,
    results: Sequence[Neighbour],
    smiles: Mapping[str, str],
    mark_known: bool,
) -> str:
    """Renders the results of one query as an HTML table.

    Args:
      query: Name of the query.
      detail: Text beside the name, e.g. id and relation.
      results: Results, best first.
      smiles: SMILES by node id; results with SMILES are drawn.
      mark_known: Whether to show which results are known facts.

    Returns:
      HTML in which all text from the dataset is escaped, with a link to the results as CSV.
    """
    with_structures = any(result.id in smiles for result in results)
    header = ["", "name", *(["structure"] if with_structures else []), "id", "score", ""]
    header += ["fact"] if mark_known else []
    header_cells = "".join(
        f'<th class="number">{title}</th>' if title == "score" else f"<th>{title}</th>"
        for title in header
    )
    scores = [result.score for result in results]
    low, high = min(scores, default=0), max(scores, default=0)
    table_rows = []
    for result in results:
        bar_width = 12 + 88 * (result.score - low) / max(high - low, 1e-9)
        cells = [
            f'<td class="number">{result.rank}</td>',
            f"<td>{escape(result.name)}</td>",
            f'<td class="id">{escape(result.id)}</td>',
            f'<td class="number">{result.score:.3f}</td>',
            f'<td><span class="bar" style="width: {bar_width:.0f}px"></span></td>',
        ]
        if with_structures:
            svg = molecule_svg(smiles[result.id]) if result.id in smiles else ""
            cells.insert(2, f"<td>{svg}</td>")
        if mark_known:
            cells.append(f"<td>{_badge(result.known)}</td>")
        table_rows.append(f"<tr>{''.join(cells)}</tr>")
    # The file is part of the page, so that none lies on the server.
    csv = base64.b64encode(as_csv(results).encode()).decode()
    return (
        '<p class="results-title"><a class="results-download" download="neighbours.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{csv}">Download CSV</a>'
        f"<b>{escape(query)}</b> <small>{escape(detail)}</small></p>"
        f'<table class="results-table"><thead><tr>{header_cells}</tr></thead>'
        f"<tbody>{''.join(table_rows)}</tbody></table>"
    )


def _badge(split: str) -> str:
    if not split:
        return '<span class="badge new">not in the graph</span>'
    return f'<span class="badge">known · {split}</span>'


def error_as_html(message: str) -> str:
    """Renders an error message as HTML."""
    return f'<p class="results-error">{escape(message)}</p>'


class PrincipalPlane(NamedTuple):
    """Plane of the first two principal components of a node type's vectors.

    Attributes:
      mean: Mean of the vectors, `[width]`.
      axes: First two principal axes, `[width, 2]`.
      background: Rows of the vectors that are drawn behind the results, sorted.
    """

    mean: np.ndarray
    axes: np.ndarray
    background: np.ndarray

    def project(self, x: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n 2"]:
        """Returns the coordinates of vectors in the plane."""
        return (x - self.mean) @ self.axes


def fit_principal_plane(keys: Float32[np.ndarray, "count width"]) -> PrincipalPlane:
    """Fits the plane by principal component analysis and samples the background."""
    mean = keys.mean(axis=0)
    centred = keys - mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    sample = np.random.default_rng(0).permutation(len(keys))[:MAX_BACKGROUND_POINTS]
    return PrincipalPlane(mean, axes[:, :-3:-1], np.sort(sample))


def plot_map(
    plane: PrincipalPlane,
    keys: Float32[np.ndarray, "count width"],
    names: Sequence[str],
    query_vector: Float32[np.ndarray, " width"],
    query: str,
    results: Sequence[Neighbour],
    result_rows: Sequence[int],
    mark_known: bool,
) -> Any:
    """Plots a query and its results among the other nodes of the target type.

    Args:
      plane: Principal plane of `keys`.
      keys: Vectors of all nodes of the target type.
      names: Names of these nodes.
      query_vector: Vector of the query.
      query: Name of the query.
      results: Results of the query.
      result_rows: Rows of the results in `keys`.
      mark_known: Whether known facts have another colour than other results.

    Returns:
      A Plotly figure.

    Raises:
      InputError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as e:
        raise InputError("the map needs Plotly: pip install 'bridge_jax[serve]'") from e
    figure = go.Figure()

    def add_points(
        name: str,
        vectors: np.ndarray,
        hovertext: Sequence[str],
        marker: Mapping[str, Any],
        text: Sequence[str] | None = None,
    ) -> None:
        points = plane.project(vectors)
        figure.add_scatter(
            x=points[:, 0],
            y=points[:, 1],
            name=name,
            mode="markers" if text is None else "markers+text",
            marker=marker,
            text=text,
            textposition="top center",
            hovertext=[escape(t) for t in hovertext],
            hovertemplate="%{hovertext}<extra></extra>",
        )

    background_names = [names[row] for row in plane.background]
    marker = {"size": 4, "color": "#C9C9C9"}
    add_points("other nodes", keys[plane.background], background_names, marker)
    unknown_label = "not in the graph" if mark_known else "neighbour"
    for known, label, colour in ((True, "known fact", KNOWN), (False, unknown_label, HIGHLIGHT)):
        shown = [i for i, result in enumerate(results) if bool(result.known) == known]
        if shown:
            marker = {"size": 10, "color": colour, "line": {"width": 1, "color": "white"}}
            vectors = keys[[result_rows[i] for i in shown]]
            shown_names = [results[i].name for i in shown]
            add_points(label, vectors, shown_names, marker, [str(results[i].rank) for i in shown])
    marker = {"size": 16, "color": INK, "symbol": "star"}
    add_points("query", query_vector[None], [query], marker, [f"<b>{escape(query)}</b>"])
    axis = {"showgrid": True, "gridcolor": "#F0F0F0", "zeroline": False, "showticklabels": False}
    figure.update_layout(
        template="none",
        height=430,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis=axis,
        yaxis=axis,
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
    )
    return figure


@lru_cache(maxsize=4096)
def molecule_svg(smiles: str, width: int = 160, height: int = 90) -> str:
    """Draws a molecule.

    Args:
      smiles: SMILES of the molecule.
      width: Width in pixels.
      height: Height in pixels.

    Returns:
      An SVG element; empty if RDKit cannot parse the SMILES.

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
    options: Any = canvas.drawOptions()  # RDKit's annotation declares all options read-only
    options.clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    svg: str = canvas.GetDrawingText()
    return svg[svg.index("<svg") :]
