"""Reader of tab-separated head, relation and tail with typed ids such as `Gene::9021`.

This is the layout of Hetionet's `hetionet-v1.0-edges.sif.gz` (header `source metaedge target`) and
of DRKG's `drkg.tsv` (no header), and the simplest format for triples of your own. The node type is
the text before the first `::`. A first line without typed ids is read as a header; unfamiliar names
in it give a notice. The first three columns are read; fields are not quoted.

Node names come from a table beside the edges with the columns `id`, `name` and `kind`. It has the
same file name, with `nodes.tsv` in place of `edges.sif.gz` or `edges.tsv`, as in Hetionet.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, first_line
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .nodes import NodeList

_COLUMNS = ("head", "relation", "tail")
_HEADERS = (_COLUMNS, ("source", "metaedge", "target"), ("subject", "predicate", "object"))


def read(path: Path) -> Edges:
    """Reads a file of typed triples, plain or gzipped.

    Args:
      path: The file.

    Returns:
      The edges; a row without a relation, or with an end that is not `type::id`, is a reject.

    Raises:
      InputError: The file is missing, truncated or has fewer than three columns.
    """
    fields = first_line(path).split("\t")
    if len(fields) < 3:
        raise InputError(
            f"{path}: {len(fields)} tab-separated columns; expected head, relation, tail"
        )
    builder = EdgesBuilder()
    _read_names(path, builder)
    has_header = "::" not in fields[0] and "::" not in fields[2]
    names: tuple[str, ...] = ()
    if has_header:
        columns = tuple(f.strip(" \ufeff") for f in fields[:3])
        if tuple(f.strip().lower() for f in fields[:3]) not in _HEADERS:
            builder.add_notice(path.name, 1, "taken for a header", "\t".join(fields))
    else:
        columns = _COLUMNS
        names = (*_COLUMNS, *(f"column {i + 4}" for i in range(len(fields) - 3)))
    for chunk in builder.read_chunks(DelimitedFile(path, columns, (), "\t", "", names)):
        head, relation, tail = (chunk.columns[c] for c in columns)
        builder.add_edges(
            chunk.rows, split_typed_ids(head, "head"), relation, split_typed_ids(tail, "tail")
        )
    return builder.build()


def _read_names(path: Path, builder: EdgesBuilder) -> None:
    """Adds the nodes of the table of names that belongs to an edge file, if there is one."""
    stem, edges_part, _ = path.name.rpartition("edges.")
    if not edges_part or not (path.parent / f"{stem}nodes.tsv").is_file():
        return
    nodes = NodeList(builder, path.parent, (f"{stem}nodes.tsv",))
    for row, (typed_id, name) in nodes.rows(("id", "name"), ("kind",), "\t", ""):
        node = _split_typed_id(typed_id, "node")
        if isinstance(node, Unusable):
            node = SourceNode("", typed_id, "", "")
        nodes.add(typed_id, node._replace(name=name), row)


def split_typed_ids(column: Column[str], end: str) -> Column[SourceNode | Unusable]:
    """Splits ids of the form `type::id` into nodes.

    Args:
      column: The typed ids.
      end: `head` or `tail`, for the reason of a reject.
    """
    return Column([_split_typed_id(v, end) for v in column.values], column.codes)


def _split_typed_id(text: str, end: str) -> SourceNode | Unusable:
    node_type, colons, id_ = (part.strip() for part in text.partition("::"))
    if not colons or not node_type:
        return Unusable(f"{end} without a type")
    return SourceNode(node_type, id_, "", "") if id_ else Unusable(f"{end} without an id")
