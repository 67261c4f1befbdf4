"""PrimeKG's tables: `kg.csv` as it is, or a folder that holds `nodes.csv` and `edges.csv`.

`kg.csv` has one directed edge a row, both directions stored, in twelve columns. `edges.csv` has the
edges alone (`relation, display_relation, x_index, y_index`), whose ends are rows of `nodes.csv`
(`node_index, node_id, node_type, node_name, node_source`). The relation is `display_relation`.

Source: Chandak, Huang, Zitnik, "Building a knowledge graph to enable precision medicine",
Scientific Data 2023.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Table
from .edges import Builder, Column, Edges, Node, Unusable, combine
from .nodes import NodeList

_FIELDS = ("type", "id", "index", "name")


def read(path: Path) -> Edges:
    """Read `kg.csv`, or a folder of `nodes.csv` and `edges.csv`; each plain or gzipped.

    Args:
      path: the file or the folder.

    Returns:
      The edges; a row without an id, a type or a relation is a reject.

    Raises:
      InputError: a file is missing, cut, or lacks a column.
    """
    return _read_folder(path) if path.is_dir() else _read_kg(path)


def _read_kg(path: Path) -> Edges:
    ends = {end: [f"{end}_{f}" for f in _FIELDS] for end in "xy"}
    sources = ("relation", "x_source", "y_source")
    build = Builder()
    build.open(path.name)
    for block in Table(path, (*ends["x"], "display_relation", *ends["y"]), sources).blocks():
        build.note(block)
        head, tail = (_nodes([block.columns[c] for c in ends[e]], e) for e in "xy")
        build.add(block.rows, head, block.columns["display_relation"], tail)
    return build.finish()


def _nodes(columns: list[Column], end: str) -> Column:
    """Join the columns of one end to one column of nodes."""
    rows, codes = combine(columns)
    return Column([_checked(Node(*row), end) for row in rows], codes)


def _checked(node: Node, end: str) -> Node | Unusable:
    for field, value in (("id", node.id), ("type", node.type)):
        if not value:
            return Unusable(f"no {end}_{field}")
    return node


def _read_folder(folder: Path) -> Edges:
    build = Builder()
    nodes = NodeList(build, folder, ("nodes.csv", "nodes.csv.gz"))
    columns = ("node_index", "node_id", "node_type", "node_name")
    for table in nodes.tables(columns, ("node_source",)):
        for row, (index, id_, kind, name) in table:
            nodes.add(index, Node(kind, id_, index, name), row)
    path = next((p for n in ("edges.csv", "edges.csv.gz") if (p := folder / n).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no edges.csv in this folder; for kg.csv name the file itself")
    build.open(path.name)
    for block in Table(path, ("x_index", "display_relation", "y_index"), ("relation",)).blocks():
        build.note(block)
        head, tail = (nodes.look_up(block.columns[c], c) for c in ("x_index", "y_index"))
        build.add(block.rows, head, block.columns["display_relation"], tail)
    return build.finish()
