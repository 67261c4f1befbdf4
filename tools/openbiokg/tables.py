"""Writers of the graph in PrimeKG's layout, of its feature tables, and of its licences."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from bridge_jax.data.files import atomic_file
from bridge_jax.data.synonyms import SEPARATOR, distinct_synonyms
from bridge_jax.formatting import markdown_table

from .assemble import DISEASE, DRUG, PHENOTYPE, PROTEIN, GraphFact, GraphNode
from .fetch import Package

SOURCE, LICENCES = "source", "LICENCES.md"  # in the dataset directory
_TITLE = "# Sources and licences"
# File stem and columns of each node type's feature table, in BioBridge's names.
_TERM_COLUMNS = ("node_id", "node_index", "node_name", "node_type", "description", "node_source",
                 "synonyms")  # fmt: skip
FEATURES = {
    PROTEIN: ("protein", ("node_id", "node_index", "node_name", "node_type", "node_source",
                          "sequence", "synonyms")),
    DRUG: ("drug", ("node_index", "drugbank_id", "node_name", "smiles")),
    DISEASE: ("disease", ("node_index", "mondo_id", "mondo_name", "definition", "synonyms")),
    "biological_process": ("biological", _TERM_COLUMNS),
    "molecular_function": ("molecular", _TERM_COLUMNS),
    "cellular_component": ("cellular", _TERM_COLUMNS),
    PHENOTYPE: ("phenotype", _TERM_COLUMNS),
}  # fmt: skip
_END_FIELDS = ("index", "id", "type", "name", "source")
_EDGE_COLUMNS = (
    *("relation", "display_relation"),
    *(f"{end}_{field}" for end in "xy" for field in _END_FIELDS),
)


def write_tables(folder: Path, nodes: Sequence[GraphNode], facts: Sequence[GraphFact]) -> None:
    """Writes `nodes.csv`, `kg.csv.gz` (both directions of each fact) and the feature tables.

    Args:
      folder: Folder to write.
      nodes: Nodes; the position of a node is its index.
      facts: Facts without duplicates.
    """
    index = {(n.type, n.id): str(i) for i, n in enumerate(nodes)}
    rows = [(index[n.type, n.id], n.id, n.type, n.name, n.source) for n in nodes]
    header = ("node_index", "node_id", "node_type", "node_name", "node_source")
    _write_csv(folder / "nodes.csv", header, rows)
    ends = {(n.type, n.id): row for n, row in zip(nodes, rows, strict=True)}
    forward = [(f.relation, f.display, *ends[f.head], *ends[f.tail]) for f in facts]
    backward = [(f.relation, f.display, *ends[f.tail], *ends[f.head]) for f in facts]
    _write_csv(folder / "kg.csv.gz", _EDGE_COLUMNS, [*forward, *backward])
    for node_type, (stem, columns) in FEATURES.items():
        nodes_of_type = [n for n in nodes if n.type == node_type]
        if nodes_of_type:
            values = [_feature_row(n, index[node_type, n.id], columns) for n in nodes_of_type]
            _write_csv(folder / f"{stem}.csv.gz", columns, values)


def write_licences(path: Path, packages: Sequence[Package]) -> None:
    """Writes a table of the packages with their sources and licences.

    Args:
      path: Markdown file to write.
      packages: Packages that the graph was built from.
    """
    header = ("part", "source", "licence", "may be passed on", "package", "package licence")
    rows = [
        (p.content, p.source, p.licence, "yes" if p.redistributable else "**no**",
         f"{p.name} {p.version} ({p.registry})", p.package_licence)
        for p in packages
    ]  # fmt: skip
    paragraphs = [
        _TITLE,
        "The graph was assembled from the packages below. The column *licence* is the licence of "
        "the data, and so of that part of the graph; the last column is the licence of the "
        "package around it.",
        markdown_table(rows, header),
    ]
    if not all(p.redistributable for p in packages):
        paragraphs.append("Because of the parts marked **no**, this dataset must not be passed on.")
    with atomic_file(path) as temporary:
        temporary.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


def files_of_tables(output: Path) -> set[str]:
    """Returns the tables and licences that an earlier build left in a dataset directory."""
    path = output / LICENCES
    if not path.is_file() or not path.read_bytes().startswith(_TITLE.encode()):
        return set()
    stems = (f"{stem}.csv.gz" for stem, _ in FEATURES.values())
    files = {f"{SOURCE}/{name}" for name in ("nodes.csv", "kg.csv.gz", *stems)}
    return files | {LICENCES}


def _feature_row(node: GraphNode, index: str, columns: Sequence[str]) -> list[str]:
    """Values of some columns; those that are no attribute of the node are its features."""
    attributes = {
        "node_id": node.id, "drugbank_id": node.id, "node_index": index, "node_name": node.name,
        "mondo_name": node.name, "node_type": node.type, "node_source": node.source,
        "synonyms": SEPARATOR.join(distinct_synonyms(node.synonyms, node.name)),
    }  # fmt: skip
    features = iter(node.features)
    return [attributes[c] if c in attributes else next(features) for c in columns]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode()
    with atomic_file(path) as temporary:
        # Without a time, so that the same sources give the same bytes.
        temporary.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
