"""OpenBioLink's folders: tab-separated edges without a header, and a list that types the nodes.

| folder | edges | nodes |
|---|---|---|
| `graph_files` | `edges.csv` | `nodes.csv` |
| `train_test_data` | `train_sample.csv`, `val_sample.csv`, `test_sample.csv` | \
`train_val_nodes.csv`, `test_nodes.csv` |

The columns are head, relation, tail, quality and source, in the samples with a value before the
source; columns may be missing from the right. Ids are CURIEs such as `NCBIGENE:9021`; a list of
nodes has an id and a type a row. True negatives (value 0 in the fifth column) are rejects, and the
files of negatives are not read. The three samples are joined: the project splits anew.

Source: Breit et al., "OpenBioLink: a benchmarking framework for large-scale biomedical link
prediction", Bioinformatics 2020; column order from the file description of its repository.
"""

from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Table, first_line
from .edges import Builder, Column, Edges, Node, Unusable
from .nodes import NodeList

_EDGES = ("edges.csv", "train_sample.csv", "val_sample.csv", "test_sample.csv")
_NODES = ("nodes.csv", "ALL_nodes.csv", "train_val_nodes.csv", "test_nodes.csv")
_COLUMNS = ("head", "relation", "tail", "quality", "value", "source")


def read(path: Path) -> Edges:
    """Read a folder, or one file of edges with the lists of nodes beside it.

    Args:
      path: the folder or the file.

    Returns:
      The edges; an edge to a node of no list, or a true negative, is a reject.

    Raises:
      InputError: there are no edges or no nodes, or a file is cut.
    """
    folder = path if path.is_dir() else path.parent
    paths = [p for n in _EDGES if (p := folder / n).is_file()] if path.is_dir() else [path]
    if not paths:
        raise InputError(f"{folder}: none of {', '.join(_EDGES)} in this folder")
    build = Builder()
    nodes = NodeList(build, folder, _NODES)
    for table in nodes.tables(("id", "type"), delimiter="\t", quote="", header=False):
        for row, (id_, kind) in table:
            nodes.add(id_, Node(kind, id_, "", ""), row)
    for file in paths:
        build.open(file.name)
        width = first_line(file).count("\t") + 1
        names = _COLUMNS[:width] + tuple(f"column {i + 1}" for i in range(6, width))
        # The fifth column is the value of a sample, or the source of a graph file.
        used = _COLUMNS[:3] + (("value",) if width > 4 else ())
        for block in Table(file, used, _COLUMNS, "\t", "", names).blocks():
            build.note(block)
            head, relation, tail, *value = (block.columns[c] for c in used)
            if value:
                relation = _positives(relation, value[0])
            build.add(
                block.rows, nodes.look_up(head, "head"), relation, nodes.look_up(tail, "tail")
            )
    return build.finish()


def _positives(relation: Column, value: Column) -> Column:
    """The relation, or why not, where the value says that the edge is a true negative."""
    negative = Unusable("a true negative")
    values = [*relation.values, negative]
    is_negative = [str(v) in ("0", "0.0") for v in value.values]
    codes = relation.codes.copy()
    for code in (i for i, bad in enumerate(is_negative) if bad):
        codes[value.codes == code] = len(values) - 1
    return Column(values, codes)
