"""Reader of PrimeKG's tables: `kg.csv`, or a folder with `nodes.csv` and `edges.csv`.

`kg.csv` has one directed edge per row in twelve columns; both directions are stored. `edges.csv`
has the columns `relation, display_relation, x_index, y_index`; the ends are rows of `nodes.csv`
(`node_index, node_id, node_type, node_name, node_source`). The relation is `display_relation`.

References:
  Chandak, Huang, Zitnik, "Building a knowledge graph to enable precision medicine", Scientific Data
  2023.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, zip_columns
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .nodes import NodeList

_FIELDS = ("type", "id", "index", "name")


def read(path: Path) -> Edges:
    """Reads `kg.csv`, or a folder with `nodes.csv` and `edges.csv`; each plain or gzipped.

    Args:
      path: The file or the folder.

    Returns:
      The edges; a row without an id, a type or a relation is a reject.

    Raises:
      InputError: A file is missing or truncated, or lacks a column.
    """
    return _read_folder(path) if path.is_dir() else _read_kg(path)


def _read_kg(path: Path) -> Edges:
    x, y = ([f"{end}_{field}" for field in _FIELDS] for end in "xy")
    file = DelimitedFile(path, (*x, "display_relation", *y), ("relation", "x_source", "y_source"))
    builder = EdgesBuilder()
    for chunk in builder.read_chunks(file):
        head = _nodes([chunk.columns[c] for c in x], "x")
        tail = _nodes([chunk.columns[c] for c in y], "y")
        builder.add_edges(chunk.rows, head, chunk.columns["display_relation"], tail)
    return builder.build()


def _nodes(columns: list[Column[str]], end: str) -> Column[SourceNode | Unusable]:
    """Joins the columns of one end of the edges to a column of nodes."""
    rows, codes = zip_columns(columns)
    return Column([_checked(SourceNode(*row), end) for row in rows], codes)


def _checked(node: SourceNode, end: str) -> SourceNode | Unusable:
    for field, value in (("id", node.id), ("type", node.type)):
        if not value:
            return Unusable(f"no {end}_{field}")
    return node


def _read_folder(folder: Path) -> Edges:
    builder = EdgesBuilder()
    nodes = NodeList(builder, folder, ("nodes.csv", "nodes.csv.gz"))
    columns = ("node_index", "node_id", "node_type", "node_name")
    for row, (index, id_, node_type, name) in nodes.rows(columns, ("node_source",)):
        nodes.add(index, SourceNode(node_type, id_, index, name), row)
    path = next((p for n in ("edges.csv", "edges.csv.gz") if (p := folder / n).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no edges.csv in this folder; for kg.csv name the file itself")
    file = DelimitedFile(path, ("x_index", "display_relation", "y_index"), ("relation",))
    for chunk in builder.read_chunks(file):
        head, tail = (nodes.look_up(chunk.columns[c], c) for c in ("x_index", "y_index"))
        builder.add_edges(chunk.rows, head, chunk.columns["display_relation"], tail)
    return builder.build()
