"""Reader of OpenBioLink's folders.

Edges are tab-separated rows without a header; a list of nodes gives the type of each id.

| folder | edges | nodes |
|---|---|---|
| `graph_files` | `edges.csv` | `nodes.csv` |
| `train_test_data` | `train_sample.csv`, `val_sample.csv`, `test_sample.csv` | \
`train_val_nodes.csv`, `test_nodes.csv` |

The columns of an edge are head, relation, tail, quality and source; samples have a value before the
source. Columns may be missing on the right. Ids are CURIEs such as `NCBIGENE:9021`; a row of a node
list is an id and a type. True negatives (value 0 in the fifth column) are rejects, and the files of
negatives are not read. The three samples are read as one graph, to be split anew.

References:
  Breit et al., "OpenBioLink: a benchmarking framework for large-scale biomedical link prediction",
  Bioinformatics 2020; the order of the columns is from the file description of its repository.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, first_line
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .nodes import NodeList

_FOLDERS = ("train_test_data", "graph_files")
_EDGES = ("edges.csv", "train_sample.csv", "val_sample.csv", "test_sample.csv")
_NODES = ("nodes.csv", "ALL_nodes.csv", "train_val_nodes.csv", "test_nodes.csv")
_COLUMNS = ("head", "relation", "tail", "quality", "value", "source")


def read(path: Path) -> Edges:
    """Reads a folder, or one edge file with the node lists beside it.

    Args:
      path: The folder or the edge file.

    Returns:
      The edges; a true negative and an edge to a node that is not listed are rejects.

    Raises:
      InputError: There are no edges or no nodes, or a file is truncated.
    """
    if path.is_dir():  # the archive's folder has the two folders
        path = next((p for n in _FOLDERS if (p := path / n).is_dir()), path)
    folder = path if path.is_dir() else path.parent
    paths = [p for n in _EDGES if (p := folder / n).is_file()] if path.is_dir() else [path]
    if not paths:
        raise InputError(f"{folder}: none of {', '.join(_EDGES)} in this folder")
    builder = EdgesBuilder()
    nodes = NodeList(builder, folder, _NODES)
    for row, (id_, node_type) in nodes.rows(("id", "type"), (), "\t", "", header=False):
        nodes.add(id_, SourceNode(node_type, id_, "", ""), row)
    for edge_file in paths:
        width = first_line(edge_file).count("\t") + 1
        names = _COLUMNS[:width] + tuple(f"column {i + 1}" for i in range(6, width))
        # The fifth column is the value of a sample, or the source of a graph file.
        columns = _COLUMNS[:3] + (("value",) if width > 4 else ())
        file = DelimitedFile(edge_file, columns, _COLUMNS, "\t", "", names)
        for chunk in builder.read_chunks(file):
            relation = chunk.columns["relation"]
            if "value" in chunk.columns:
                relation = _mark_negatives(relation, chunk.columns["value"])
            head, tail = (nodes.look_up(chunk.columns[c], c) for c in ("head", "tail"))
            builder.add_edges(chunk.rows, head, relation, tail)
    return builder.build()


def _mark_negatives(relation: Column[str], value: Column[str]) -> Column[str]:
    """Makes the relation unusable where the value says that the edge is a true negative."""
    values = [*relation.values, Unusable("a true negative")]
    codes = relation.codes.copy()
    for code, text in enumerate(value.values):
        if text in ("0", "0.0"):
            codes[value.codes == code] = len(values) - 1
    return Column(values, codes)
