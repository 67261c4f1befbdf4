"""Reader of head, relation and tail with typed ids such as `Gene::9021`.

This is the layout of Hetionet's `hetionet-v1.0-edges.sif.gz` (header `source metaedge target`) and
of DRKG's `drkg.tsv` (no header), and the simplest format for triples of your own. The node type is
the text before the first `::`. Columns are separated by tabs; a file without tabs may have commas
or semicolons.

A first line without typed ids is a header. Columns named `head relation tail`, `source metaedge
target`, `source relation target` or `subject predicate object` are found in any order and among
others; with other names the first three columns are read, and a notice says so.

Node names come from a table beside the edges with the columns `id`, `name` and `kind`, as in
Hetionet, and maybe `synonyms`. It has the same file name, with `nodes.tsv` in place of
`edges.sif.gz` or `edges.tsv`.
"""

from pathlib import Path

from bridge_jax.data.synonyms import synonym_columns
from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .layout import delimiter_in, first_lines, read_layout
from .nodes import NodeList

_COLUMNS = ("head", "relation", "tail")
_HEADERS = (
    _COLUMNS,
    ("source", "metaedge", "target"),
    ("source", "relation", "target"),
    ("subject", "predicate", "object"),
)
_PROBE_LINES = 6


def read(path: Path, delimiter: str = "") -> Edges:
    """Reads a file of typed triples, plain or gzipped.

    Args:
      path: The file.
      delimiter: Field separator; default: found, a tab if there is one.

    Returns:
      The edges; a row without a relation, or with an end that is not `type::id`, is a reject.

    Raises:
      InputError: The file is missing, truncated or has fewer than three columns, or its typed ids
        are not in the first and the third column.
    """
    delimiter = delimiter_in(path, delimiter) or delimiter_in(path, "\t")
    layout = read_layout(path, delimiter, may_repeat=True)  # the first line may be a row
    fields = layout.header
    if len(fields) < 3:
        noun = "tab-separated columns" if layout.delimiter == "\t" else "columns"
        raise InputError(f"{path}: {len(fields)} {noun}; expected head, relation, tail")
    builder = EdgesBuilder()
    _read_names(path, builder)
    names: tuple[str, ...] = ()
    by_name = _named_columns(fields)
    has_header = bool(by_name) or not any("::" in f for f in fields)
    if not by_name:
        _check_order(path, layout.delimiter, int(has_header))
    if has_header:
        columns = by_name or tuple(fields[:3])
        if not by_name:
            builder.add_notice(path.name, 1, "taken for a header", "\t".join(fields))
    else:
        columns = _COLUMNS
        names = (*_COLUMNS, *(f"column {i + 4}" for i in range(len(fields) - 3)))
    ignored = [f for f in fields if not f] if has_header else ()
    file = DelimitedFile(path, columns, ignored, layout.delimiter, layout.quote, names)
    for chunk in builder.read_chunks(file):
        head, relation, tail = (chunk.columns[c] for c in columns)
        builder.add_edges(
            chunk.rows, split_typed_ids(head, "head"), relation, split_typed_ids(tail, "tail")
        )
    return builder.build()


def _named_columns(fields: list[str]) -> tuple[str, ...]:
    """Returns the names of head, relation and tail in a header; () if it has none of the names."""
    found = {f.lower(): f for f in fields}
    for names in _HEADERS:
        if set(names) <= set(found):
            return tuple(found[n] for n in names)
    return ()


def _check_order(path: Path, delimiter: str, num_header_lines: int) -> None:
    """Refuses a file whose typed ids are consistently in other columns than the first and third."""
    lines = first_lines(path, _PROBE_LINES)[num_header_lines:]
    places = {tuple(i for i, f in enumerate(line.split(delimiter)) if "::" in f) for line in lines}
    if len(places) == 1 and len(at := places.pop()) == 2 and at != (0, 2):
        raise InputError(
            f"{path}: the ids type::id are in columns {at[0] + 1} and {at[1] + 1}, expected 1 and "
            "3: order the columns as head, relation, tail, or name them so in a first line"
        )


def _read_names(path: Path, builder: EdgesBuilder) -> None:
    """Adds the nodes of the table of names that belongs to an edge file, if there is one."""
    stem, edges_part, _ = path.name.rpartition("edges.")
    names = [n for n in (f"{stem}nodes.tsv", f"{stem}nodes.tsv.gz") if (path.parent / n).is_file()]
    if not edges_part or not names or not _is_table_of_names(path.parent / names[0]):
        return
    nodes = NodeList(builder, path.parent, names[:1])
    extra = synonym_columns(read_layout(path.parent / names[0], "\t").header)
    rows = nodes.rows(("id", "name", *extra), ("kind",), "\t", "")
    for row, (typed_id, name, *synonyms) in rows:
        node = _split_typed_id(typed_id, "node")
        if isinstance(node, Unusable):
            node = SourceNode("", typed_id, "", "")
        nodes.add(typed_id, node._replace(name=name), row, synonyms)


def _is_table_of_names(path: Path) -> bool:
    """Whether a table beside the edges has ids and names; KGX's has a category instead of types."""
    header = read_layout(path, may_repeat=True).header
    return {"id", "name"} <= set(header) and "category" not in header


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
