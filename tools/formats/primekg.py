"""Reader of PrimeKG's tables: `kg.csv`, or a folder with `nodes.csv` and `edges.csv`.

`kg.csv` has one directed edge per row in twelve columns; both directions are stored. `edges.csv`
has the columns `relation, display_relation, x_index, y_index`; the ends are rows of `nodes.csv`
(`node_index, node_id, node_type, node_name, node_source`), which Harvard Dataverse serves as
`nodes.tab`. The relation is `display_relation`. Columns may be separated by commas or tabs.

TxGNN's `kg.csv` has the same layout without the columns of indices, and sometimes without those of
names or `display_relation`; then the relation is `relation`, and a notice says so.

References:
  Chandak, Huang, Zitnik, "Building a knowledge graph to enable precision medicine", Scientific Data
  2023.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, zip_columns
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .layout import read_layout
from .nodes import NodeList

_FIELDS = ("type", "id", "index", "name")
_OPTIONAL = ("index", "name")
_KNOWN_COLUMNS = (
    *(f"{end}_{field}" for end in "xy" for field in _FIELDS), "relation", "display_relation"
)  # fmt: skip
_SUFFIXES = (".csv", ".csv.gz", ".tab", ".tab.gz", ".tsv", ".tsv.gz")


def read(path: Path, delimiter: str = "") -> Edges:
    """Reads `kg.csv`, or a folder with `nodes.csv` and `edges.csv`; each plain or gzipped.

    Args:
      path: The file or the folder.
      delimiter: Field separator of all files; default: found.

    Returns:
      The edges; a row without an id, a type or a relation is a reject.

    Raises:
      InputError: A file is missing or truncated, or lacks a column.
    """
    if not path.is_dir():
        header = read_layout(path, delimiter, _KNOWN_COLUMNS).header
        if "x_index" in header and not {"x_id", "x_type"} & set(header):
            return _read_folder(path.parent, path, delimiter)  # edges.csv
        return _read_kg(path, delimiter)
    edges, kg = _find(path, ("edges",)), _find(path, ("kg",))
    return _read_kg(kg, delimiter) if kg and not edges else _read_folder(path, edges, delimiter)


def _find(folder: Path, stems: Sequence[str]) -> Path | None:
    """Returns the first file of a folder with one of the stems, if there is one."""
    names = (f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES)
    return next((p for n in names if (p := folder / n).is_file()), None)


def _read_kg(path: Path, delimiter: str) -> Edges:
    layout = read_layout(path, delimiter, _KNOWN_COLUMNS)
    builder = EdgesBuilder()
    absent = {field for field in _OPTIONAL if not {f"x_{field}", f"y_{field}"} & set(layout.header)}
    x, y = ([f"{end}_{field}" for field in _FIELDS if field not in absent] for end in "xy")
    relation = "display_relation"
    ignored = ("relation", "x_source", "y_source", "x_idx", "y_idx")
    is_complete = set(layout.header) <= {*x, *y, *ignored}  # no misspelt name among them
    if "relation" in layout.header and relation not in layout.header and is_complete:
        builder.add_notice(path.name, 1, "no column display_relation, relation is read", "")
        relation = "relation"
    file = DelimitedFile(path, (*x, relation, *y), ignored, layout.delimiter, layout.quote)
    for chunk in builder.read_chunks(file):
        head, tail = (
            _nodes(
                [
                    chunk.columns.get(f"{end}_{field}") or _empty_column(len(chunk.rows))
                    for field in _FIELDS
                ],
                end,
            )
            for end in "xy"
        )
        builder.add_edges(chunk.rows, head, chunk.columns[relation], tail)
    return builder.build()


def _empty_column(length: int) -> Column[str]:
    return Column([""], np.zeros(length, np.int64))


def _nodes(columns: list[Column[str]], end: str) -> Column[SourceNode | Unusable]:
    """Joins the columns of one end of the edges to a column of nodes."""
    rows, codes = zip_columns(columns)
    return Column([_checked(SourceNode(*row), end) for row in rows], codes)


def _checked(node: SourceNode, end: str) -> SourceNode | Unusable:
    for field, value in (("id", node.id), ("type", node.type)):
        if not value:
            return Unusable(f"no {end}_{field}")
    return node


def _read_folder(folder: Path, path: Path | None, delimiter: str) -> Edges:
    builder = EdgesBuilder()
    found = _find(folder, ("nodes", "node"))
    nodes = NodeList(builder, folder, (found.name if found else "nodes.csv or nodes.tab",))
    columns = ("node_index", "node_id", "node_type", "node_name")
    layout = read_layout(nodes.paths[0], delimiter, columns)
    rows = nodes.rows(columns, ("node_source",), layout.delimiter, layout.quote)
    for row, (index, id_, node_type, name) in rows:
        nodes.add(index, SourceNode(node_type, id_, index, name), row)
    if path is None:
        raise InputError(f"{folder}: no edges.csv in this folder; for kg.csv name the file itself")
    layout = read_layout(path, delimiter, _KNOWN_COLUMNS)
    columns = ("x_index", "display_relation", "y_index")
    file = DelimitedFile(path, columns, ("relation",), layout.delimiter, layout.quote)
    for chunk in builder.read_chunks(file):
        head, tail = (nodes.look_up(chunk.columns[c], c) for c in ("x_index", "y_index"))
        builder.add_edges(chunk.rows, head, chunk.columns["display_relation"], tail)
    return builder.build()
