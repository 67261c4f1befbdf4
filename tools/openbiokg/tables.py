"""Write the graph in PrimeKG's layout, its nodes as feature tables, and its licences."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from bridge_jax.data.files import atomic_file

from .assemble import DISEASE, DRUG, PHENOTYPE, PROTEIN, Fact, Node
from .fetch import Package

# The feature table of each type, and its columns; BioBridge's names.
_TERM = ("node_id", "node_index", "node_name", "node_type", "description", "node_source")
FEATURES = {
    PROTEIN: ("protein", ("node_id", "node_index", "node_name", "node_type", "node_source",
                          "sequence")),
    DRUG: ("drug", ("node_index", "drugbank_id", "node_name", "smiles")),
    DISEASE: ("disease", ("node_index", "mondo_id", "mondo_name", "definition")),
    "biological_process": ("biological", _TERM),
    "molecular_function": ("molecular", _TERM),
    "cellular_component": ("cellular", _TERM),
    PHENOTYPE: ("phenotype", _TERM),
}  # fmt: skip
_END = ("index", "id", "type", "name", "source")
_EDGE = ("relation", "display_relation", *(f"{end}_{field}" for end in "xy" for field in _END))


def write_tables(folder: Path, nodes: Sequence[Node], facts: Sequence[Fact]) -> None:
    """Write `nodes.csv`, `kg.csv.gz` (both directions of each fact) and the feature tables.

    Args:
      folder: where to.
      nodes: their place is their index.
      facts: each once.
    """
    index = {(n.type, n.id): str(i) for i, n in enumerate(nodes)}
    rows = [(index[n.type, n.id], n.id, n.type, n.name, n.source) for n in nodes]
    header = ("node_index", "node_id", "node_type", "node_name", "node_source")
    _write(folder / "nodes.csv", header, rows)
    ends = {(n.type, n.id): (i, n.id, n.type, n.name, n.source)
            for n, (i, *_) in zip(nodes, rows, strict=True)}  # fmt: skip
    there = [(f.relation, f.display, *ends[f.head], *ends[f.tail]) for f in facts]
    back = [(f.relation, f.display, *ends[f.tail], *ends[f.head]) for f in facts]
    _write(folder / "kg.csv.gz", _EDGE, [*there, *back])
    for kind, (stem, columns) in FEATURES.items():
        own = [n for n in nodes if n.type == kind]
        if own:
            values = [_features(n, index[kind, n.id], columns) for n in own]
            _write(folder / f"{stem}.csv.gz", columns, values)


def _features(node: Node, index: str, columns: Sequence[str]) -> list[str]:
    own = {
        "node_id": node.id, "drugbank_id": node.id, "node_index": index, "node_name": node.name,
        "mondo_name": node.name, "node_type": node.type, "node_source": node.source,
    }  # fmt: skip
    rest = iter(node.features)
    return [own[c] if c in own else next(rest) for c in columns]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode()
    with atomic_file(path) as temporary:
        # Without a time, so that the same sources give the same bytes.
        temporary.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def write_licences(path: Path, packages: Sequence[Package]) -> None:
    """Write a table of the parts, who made them, and under which licence.

    Args:
      path: the Markdown file.
      packages: those that were used.
    """
    lines = [
        "# Sources and licences",
        "The graph was assembled from the packages below. A licence in the third column is that of "
        "the data, and so of the graph's part; the last column is that of the package around it.",
        "",
        "| part | source | licence | may be passed on | package | package licence |",
        "|---|---|---|---|---|---|",
    ]
    for p in packages:
        free = "yes" if p.redistributable else "**no**"
        package = f"{p.name} {p.version} ({p.registry})"
        cells = (p.part, p.source, p.licence, free, package, p.package_licence)
        lines.append(f"| {' | '.join(cells)} |")
    if not all(p.redistributable for p in packages):
        lines += ["", "Because of the parts marked **no**, this dataset must not be passed on."]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
