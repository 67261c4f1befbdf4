"""Map of the projected space: its first two principal components, as an SVG drawing."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from bridge_jax.retrieval.results import Neighbour

# Tails drawn behind the results; more would only slow the browser down.
MAX_BACKGROUND_POINTS = 1500
_WIDTH, _HEIGHT, _MARGIN = 900, 420, 24
_MAX_LABEL = 24  # characters


class PrincipalPlane(NamedTuple):
    """Plane of the first two principal components of a node type's vectors.

    Attributes:
      mean: Mean of the vectors, `[width]`.
      axes: First two principal axes, `[width, 2]`.
      background: Coordinates of the vectors that are drawn behind the results, `[n, 2]`.
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
    axes = axes[:, :-3:-1]
    sample = np.random.default_rng(0).permutation(len(keys))[:MAX_BACKGROUND_POINTS]
    return PrincipalPlane(mean, axes, centred[np.sort(sample)] @ axes)


def map_as_svg(
    plane: PrincipalPlane,
    query_vector: Float32[np.ndarray, " width"],
    query: str,
    results: Sequence[Neighbour],
    result_vectors: Float32[np.ndarray, "n width"],
    mark_known: bool,
) -> str:
    """Draws a query and its results among the other nodes of the target type.

    Args:
      plane: Principal plane of the target type.
      query_vector: Vector of the query.
      query: Name of the query.
      results: Results of the query.
      result_vectors: Vectors of the results.
      mark_known: Whether known facts have another colour than other results.

    Returns:
      A figure element with the drawing and its legend.
    """
    points = np.concatenate(
        [plane.project(query_vector[None]), plane.project(result_vectors), plane.background]
    )
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    scaled = _MARGIN + (points - low) / np.maximum(high - low, 1e-9) * size
    scaled[:, 1] = _HEIGHT - scaled[:, 1]
    star, dots, background = scaled[0], scaled[1 : 1 + len(results)], scaled[1 + len(results) :]
    path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in background)
    marks = []
    for result, (x, y) in zip(results, dots, strict=True):
        kind = "known" if mark_known and result.known else "new"
        marks.append(
            f'<g class="{kind}"><title>{result.rank}. {escape(result.name)}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            f'<text x="{x:.1f}" y="{y - 9:.1f}">{result.rank}</text></g>'
        )
    known = '<li class="known">known fact</li>' if mark_known else ""
    return (
        f'<figure class="map"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Map of {escape(query)} and its answers">'
        f'<path class="others" d="{path}"/>{"".join(marks)}'
        f'<g class="query" transform="translate({star[0]:.1f} {star[1]:.1f})">'
        '<path d="M0-11 3.2-3.5 11-3.2 4.9 1.7 7 9.3 0 5-7 9.3-4.9 1.7-11-3.2-3.2-3.5Z"/>'
        f'<text y="-15">{escape(query[:_MAX_LABEL])}</text></g></svg>'
        f'<figcaption><ul class="legend"><li class="query">query</li>{known}'
        f'<li class="new">{"other answer" if mark_known else "answer"}</li>'
        '<li class="others">other nodes of the type</li></ul>'
        "First two principal components of the target type; two cannot show everything, so the "
        "query may lie far from its answers.</figcaption></figure>"
    )
