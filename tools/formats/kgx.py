"""Reader of KGX/Biolink tables, such as Monarch's `monarch-kg_edges.tsv`.

Edges have the columns `subject`, `predicate` and `object`, in any order and among others. The type
of a node is its category, without the prefix `biolink:`; it comes from one of

- a table of nodes beside the edges, with the columns `id`, `category` and, optionally, `name` and
  `synonym`: the same file name with `nodes` in place of `edges`;
- the columns `subject_category` and `object_category` of the edges (Monarch's denormalised table),
  with names in `subject_label` and `object_label`.

Of several categories, separated by `|`, the first that is not as general as `NamedThing` counts.

References:
  The KGX format, https://biolink.github.io/kgx/kgx_format.html.
"""

from pathlib import Path

from bridge_jax.data.synonyms import synonym_columns
from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, TableChunk, zip_columns
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .layout import read_layout
from .nodes import NodeList

_SUFFIXES = (".tsv", ".tsv.gz", ".csv", ".csv.gz", ".tab", ".tab.gz")
_EDGE_COLUMNS = ("subject", "predicate", "object")
_CATEGORIES = ("subject_category", "object_category")
_GENERAL = frozenset(
    {
        "", "NamedThing", "Entity", "ThingWithTaxon", "PhysicalEssence", "OntologyClass",
        "PhysicalEssenceOrOccurrent", "BiologicalEntity", "MacromolecularMachineMixin",
    }
)  # fmt: skip


def read(path: Path, delimiter: str = "") -> Edges:
    """Reads a table of edges, or a folder with one table of edges and one of nodes.

    Args:
      path: The table of edges, plain or gzipped, or the folder.
      delimiter: Field separator of both tables; default: found.

    Returns:
      The edges; an edge to a node without a category is a reject.

    Raises:
      InputError: A file is missing or truncated, or lacks a column.
    """
    if path.is_dir():
        path = _only_table(path, "edges")
    layout = read_layout(path, delimiter, (*_EDGE_COLUMNS, *_CATEGORIES))
    builder = EdgesBuilder()
    columns = [*_EDGE_COLUMNS]
    has_categories = set(_CATEGORIES) <= set(layout.header)
    labels: list[str] = []
    nodes = None
    if has_categories:
        columns += _CATEGORIES
        labels = [c for c in ("subject_label", "object_label") if c in layout.header]
    else:
        nodes = _read_nodes(path, builder, delimiter)
    file = DelimitedFile(path, (*columns, *labels), layout.header, layout.delimiter, layout.quote)
    for chunk in builder.read_chunks(file):
        if nodes:
            head, tail = (nodes.look_up(_plain(chunk.columns[c]), c) for c in columns[::2])
        else:
            head, tail = (_categorised_nodes(chunk, c) for c in ("subject", "object"))
        predicate = chunk.columns["predicate"]
        relation = Column([_local_name(v) for v in predicate.values], predicate.codes)
        builder.add_edges(chunk.rows, head, relation, tail)
    return builder.build()


def _only_table(folder: Path, noun: str) -> Path:
    found = [
        p for p in sorted(folder.iterdir()) if p.name.endswith(tuple(noun + s for s in _SUFFIXES))
    ]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise InputError(
            f"{folder}: expected one table of {noun} (…{noun}.tsv) in this folder, found {names}; "
            "name the file of edges itself"
        )
    return found[0]


def _read_nodes(path: Path, builder: EdgesBuilder, delimiter: str) -> NodeList:
    """Reads the table of nodes that belongs to a table of edges."""
    stem, edges_part, _ = path.name.rpartition("edges")
    names = [f"{stem}nodes{suffix}" for suffix in _SUFFIXES]
    found = next((n for n in names if (path.parent / n).is_file()), None)
    if not edges_part or found is None:
        expected = names[0] if edges_part else "a file …edges.tsv with …nodes.tsv beside it"
        raise InputError(
            f"{path}: no table of nodes with their categories beside it; expected {expected}, or "
            "the columns subject_category and object_category in this file"
        )
    nodes = NodeList(builder, path.parent, (found,))
    layout = read_layout(path.parent / found, delimiter, ("id", "category", "name"))
    name_column = ["name"] if "name" in layout.header else []
    columns = ["id", "category", *name_column, *synonym_columns(layout.header)]
    rows = nodes.rows(columns, layout.header, layout.delimiter, layout.quote)
    for row, (id_, category, *others) in rows:
        key, *words = (text.strip('"') for text in (id_, *others))
        name, synonyms = "".join(words[: len(name_column)]), words[len(name_column) :]
        nodes.add(key, SourceNode(_category(category), key, "", name), row, synonyms)
    return nodes


def _categorised_nodes(chunk: TableChunk, end: str) -> Column[SourceNode | Unusable]:
    """Joins the columns of one end of the edges to a column of nodes."""
    names = [end, f"{end}_category", f"{end}_label"]
    columns = [_plain(chunk.columns[n]) for n in names if n in chunk.columns]
    rows, codes = zip_columns(columns)
    return Column([_categorised_node(end, *row) for row in rows], codes)


def _categorised_node(end: str, id_: str, category: str, name: str = "") -> SourceNode | Unusable:
    node_type = _category(category)
    if not id_ or not node_type:
        return Unusable(f"no {end}" if not id_ else f"no {end}_category")
    return SourceNode(node_type, id_, "", name)


def _category(text: str) -> str:
    """Returns the most specific category of a list, without its prefix."""
    names = [_local_name(part) for part in text.strip('"').split("|")]
    return next((n for n in names if n not in _GENERAL), names[0])


def _local_name(curie: str) -> str:
    return curie.strip('" ').removeprefix("biolink:")


def _plain(column: Column[str]) -> Column[str]:
    """Removes the quotes that some tools write around fields."""
    return Column([v.strip('"') for v in column.values], column.codes)
