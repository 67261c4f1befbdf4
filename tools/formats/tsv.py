"""Head, relation, tail in tab-separated columns, with typed ids such as `Gene::9021`.

This is the layout of Hetionet's `hetionet-v1.0-edges.sif.gz` (header `source metaedge target`), of
DRKG's `drkg.tsv` (no header), and the simplest way to bring triples of one's own. The type is what
stands before the first `::`. A first line without typed ids is a header; where its names are not
familiar, that is noted. The first three columns are read. Fields are not quoted.

Names come from a table with the columns `id`, `name` and `kind` that stands beside the edges and is
called like them, with `nodes.tsv` in place of `edges.sif.gz` or `edges.tsv`, as Hetionet's is.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Table, first_line
from .edges import Builder, Column, Edges, Node, Unusable
from .nodes import NodeList

_COLUMNS = ("head", "relation", "tail")
_HEADERS = (_COLUMNS, ("source", "metaedge", "target"), ("subject", "predicate", "object"))


def read(path: Path) -> Edges:
    """Read a file of typed triples, plain or gzipped.

    Args:
      path: the file.

    Returns:
      The edges; a row whose ends are not `type::id`, or without a relation, is a reject.

    Raises:
      InputError: the file is missing, cut, or has fewer than three columns.
    """
    fields = first_line(path).split("\t")
    typed = len(fields) > 2 and ("::" in fields[0] or "::" in fields[2])
    names = (*_COLUMNS, *(f"column {i + 4}" for i in range(len(fields) - 3))) if typed else ()
    if len(fields) < 3:
        raise InputError(
            f"{path}: {len(fields)} tab-separated columns; expected head, relation, tail"
        )
    columns = _COLUMNS if typed else tuple(f.strip(" \ufeff") for f in fields[:3])
    build = Builder()
    _read_names(path, build)
    build.open(path.name)
    if not typed and tuple(f.strip().lower() for f in fields[:3]) not in _HEADERS:
        build.notice(path.name, 1, "taken for a header", "\t".join(fields))
    for block in Table(path, columns, (), "\t", "", names).blocks():
        build.note(block)
        head, relation, tail = (block.columns[c] for c in columns)
        build.add(block.rows, typed_ids(head, "head"), relation, typed_ids(tail, "tail"))
    return build.finish()


def _read_names(edges: Path, build: Builder) -> None:
    stem, found, _ = edges.name.rpartition("edges.")
    if not found or not (edges.parent / f"{stem}nodes.tsv").is_file():
        return
    names = NodeList(build, edges.parent, (f"{stem}nodes.tsv",))
    for table in names.tables(("id", "name"), ("kind",), "\t", ""):
        for row, (typed, name) in table:
            node = _node(typed, "node")
            blank = Node("", typed, "", name)
            names.add(typed, node._replace(name=name) if isinstance(node, Node) else blank, row)


def typed_ids(column: Column, end: str) -> Column:
    """Split `type::id` into nodes.

    Args:
      column: typed ids.
      end: what the column is, for the reason of a reject.
    """
    return Column([_node(str(v), end) for v in column.values], column.codes)


def _node(text: str, end: str) -> Node | Unusable:
    kind, colons, name = (part.strip() for part in text.partition("::"))
    if not colons or not kind:
        return Unusable(f"{end} without a type")
    return Node(kind, name, "", "") if name else Unusable(f"{end} without an id")
