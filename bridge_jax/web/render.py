"""Rendering of answers as HTML: title, table, reasons, drawings of molecules.

All text of the dataset and of the client is escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.retrieval.explanations import Explanation, NamedNode
from bridge_jax.retrieval.results import (
    Neighbour,
    Neighbours,
    as_csv,
    format_probability,
    format_share,
)
from bridge_jax.web.links import link_of

MAX_LISTED_QUERIES = 50  # of a list, shown in the page; the file has all
_MAX_FAULTS = 20
_MIN_SHARE = 0.005  # of a reason that is shown

# Label, explanation and alignment of each column.
_COLUMNS = {
    "rank": ("#", "Rank; facts that the model was trained on come first", "number"),
    "query": ("Query", "Node that is asked about", ""),
    "name": ("Answer", "Name and id, with a link to the entry in its database", ""),
    "structure": ("Structure", "Structural formula", ""),
    "probability": ("Probability", "Of this answer among all candidates of its type", "number"),
    "percentile": ("Percentile", "Share of the candidates that do not rank before it", "number"),
    "confidence": (
        "Confidence",
        "How often an answer with such a probability was a fact of the validation split",
        "number",
    ),
    "known": ("Fact", "Whether the graph has this fact, and in which split", ""),
    "why": ("Why", "Reasons for this answer", ""),
}


def title_as_html(title: str, detail: str, triple_type: TripleType, quality: str = "") -> str:
    """Renders the question that is answered.

    Args:
      title: Name of the query.
      detail: Its id, or what it is.
      triple_type: Triple type of the question.
      quality: Sentence about the triple type.
    """
    note = f'<p class="quality">{escape(quality)}</p>' if quality else ""
    return (
        f'<h2 class="answer-title"><b>{escape(title)}</b> {id_as_html(detail)} '
        f'<span class="arrow">→</span> {escape(triple_type.relation)} '
        f'<span class="arrow">→</span> {escape(triple_type.tail)}</h2>{note}'
    )


def id_as_html(node_id: str) -> str:
    """Renders an id, with a link to the database that it comes from if that is known."""
    if not node_id:
        return ""
    address = link_of(node_id)
    if not address:
        return f'<span class="id">{escape(node_id)}</span>'
    return (
        f'<a class="id" href="{escape(address)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(node_id)}</a>"
    )


def results_as_html(
    results: Sequence[Neighbour],
    smiles: Mapping[str, str],
    mark_known: bool,
    with_reasons: bool,
) -> str:
    """Renders the results of one query as a table.

    Args:
      results: Results, best first.
      smiles: SMILES by node id; results with SMILES are drawn.
      mark_known: Whether to show which results are known facts.
      with_reasons: Whether a row can be opened to see its reasons.

    Returns:
      The table, and a link to the same as CSV.
    """
    if not results:
        return '<p class="note">No answer is left; show known facts to see them.</p>'
    columns = ["rank", "name", "probability", "percentile", "confidence"]
    if any(result.id in smiles for result in results):
        columns.insert(2, "structure")
    columns += [*(["known"] if mark_known else []), *(["why"] if with_reasons else [])]
    return _table(columns, results, smiles, {}) + _download(results)


def list_as_html(
    results: Sequence[Neighbour], names: Mapping[str, str], faults: Sequence[str], mark_known: bool
) -> str:
    """Renders the results of several queries as one table.

    Args:
      results: Results, in the order of their queries.
      names: Name of each query by its id.
      faults: What is wrong with the lines that were left out.
      mark_known: Whether to show which results are known facts.
    """
    groups = Neighbours(results).by_query()
    shown = [result for group in groups[:MAX_LISTED_QUERIES] for result in group]
    columns = ["query", "rank", "name", "probability", "percentile", "confidence"]
    columns += ["known"] if mark_known else []
    notes = ""
    if faults:
        items = "".join(f"<li>{escape(fault)}</li>" for fault in faults[:_MAX_FAULTS])
        more = len(faults) - _MAX_FAULTS
        items += f"<li>and {more:,} more</li>" if more > 0 else ""
        notes = f'<div class="note">Left out:<ul>{items}</ul></div>'
    if len(groups) > MAX_LISTED_QUERIES:
        notes += (
            f'<p class="note">The first {MAX_LISTED_QUERIES} of {len(groups):,} queries; the file '
            "has all.</p>"
        )
    return notes + _download(results) + _table(columns, shown, {}, names)


def _table(
    columns: Sequence[str],
    results: Sequence[Neighbour],
    smiles: Mapping[str, str],
    names: Mapping[str, str],
) -> str:
    header = "".join(
        f'<th scope="col" class="{align}" title="{title}">{label}</th>'
        for label, title, align in (_COLUMNS[column] for column in columns)
    )
    largest = max((result.probability for result in results), default=1) or 1
    rows = []
    for result in results:
        cells = {
            "rank": str(result.rank),
            "query": f"{escape(names.get(result.query, result.query))} {id_as_html(result.query)}",
            "name": f"{escape(result.name)} {id_as_html(result.id) if result.id else ''}",
            "structure": molecule_svg(smiles[result.id]) if result.id in smiles else "",
            "probability": (
                f"{format_probability(result.probability)}"
                '<span class="bar" aria-hidden="true">'
                f'<i style="width:{100 * result.probability / largest:.1f}%"></i></span>'
            ),
            "percentile": f"{result.percentile:.2f}",
            "confidence": format_share(result.confidence)
            or '<span title="a known fact, or not measured">–</span>',
            "known": _badge(result.known),
            "why": (
                '<button type="button" class="why" aria-expanded="false" '
                f'data-answer="{escape(result.id)}" aria-label="Why {escape(result.name)}?">why'
                "</button>"
            ),
        }
        first = ' class="first"' if result.rank == 1 and "query" in columns else ""
        rows.append(
            f'<tr{first} data-id="{escape(result.id)}">'
            + "".join(
                f'<td class="{column} {_COLUMNS[column][2]}">{cells[column]}</td>'
                for column in columns
            )
            + "</tr>"
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Answers">'
        f'<table class="results"><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _badge(split: str) -> str:
    if not split:
        return '<span class="badge new" title="The graph does not have this fact">new</span>'
    return f'<span class="badge known">known · {escape(split)}</span>'


def _download(results: Sequence[Neighbour]) -> str:
    # The file is part of the page, so that none lies on the server.
    csv = base64.b64encode(as_csv(results).encode()).decode()
    return (
        '<p class="download"><a download="neighbours.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{csv}">Download CSV</a></p>'
    )


def reasons_as_html(explanation: Explanation, head_type: str) -> str:
    """Renders the reasons for one answer.

    Args:
      explanation: The reasons.
      head_type: Node type of the query.
    """
    nouns = {
        "bridge": "from the bridge: the embeddings of query and answer fit each other",
        "source": f"from similar {head_type} nodes that have it",
        "bridged": f"from {head_type} nodes with a similar bridged embedding that have it",
        "tails": "from its similarity to known answers",
    }
    items = []
    for part, share in sorted(explanation.shares.items(), key=lambda item: -item[1]):
        if share < _MIN_SHARE:
            continue
        nodes = "".join(map(_similar_as_html, explanation.similar.get(part, ())))
        items.append(
            f"<li><b>{format_share(share)}</b> {escape(nouns.get(part, part))}"
            + (f"<ul>{nodes}</ul>" if nodes else "")
            + "</li>"
        )
    paths = "".join(f"<li>{escape(' → '.join(path))}</li>" for path in explanation.paths)
    known = f'<p>Known facts that lead to it:</p><ul class="paths">{paths}</ul>' if paths else ""
    return f'<ul class="shares">{"".join(items)}</ul>{known}'


def _similar_as_html(node: NamedNode) -> str:
    return (
        f"<li>{escape(node.name)} {id_as_html(node.id)}, similarity {node.similarity:.2f}, "
        f"{format_share(node.weight)} of these votes</li>"
    )


def error_as_html(message: str) -> str:
    """Renders an error message as HTML."""
    return f'<p class="error" role="alert">{escape(message)}</p>'


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
