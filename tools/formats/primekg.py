"""PrimeKG's `kg.csv`: one directed edge a row, both directions stored, twelve columns.

Source: Chandak, Huang, Zitnik, "Building a knowledge graph to enable precision medicine",
Scientific Data 2023; the relation is the column `display_relation`.
"""

from pathlib import Path

import numpy as np

from tools.formats.edges import Codes, Edges, Node, Reject, Vocabulary, read_blocks

_ENDS = ("x", "y")
COLUMNS = (
    "display_relation",
    *(f"{end}_{c}" for end in _ENDS for c in ("index", "id", "type", "name")),
)


def read(path: Path) -> Edges:
    """Read `kg.csv`, plain or gzipped.

    Args:
      path: the file; further columns are ignored.

    Returns:
      The edges; a row without an id, a type or a relation is a reject.

    Raises:
      InputError: the file is missing, cut, or lacks a column.
    """
    edges, nodes, relations = Edges(), Vocabulary(), Vocabulary()
    parts: dict[str, list[np.ndarray]] = {"head": [], "relation": [], "tail": [], "row": []}
    for rows, block, bad in read_blocks(path, COLUMNS):
        edges.rejects += bad
        keep = np.ones(len(rows), bool)
        for name in ("x_id", "x_type", "y_id", "y_type", "display_relation"):
            blank = np.array([not v for v in block[name].values], bool)
            empty = blank[block[name].codes] & keep if len(blank) else np.zeros(len(rows), bool)
            edges.rejects += [
                Reject(int(rows[i]), f"no {name}", _text(block, i)) for i in np.flatnonzero(empty)
            ]
            keep &= ~empty
        kept = {k: Codes(v.values, v.codes[keep]) for k, v in block.items()}
        for end, column in zip(_ENDS, ("head", "tail"), strict=True):
            get = [kept[f"{end}_{c}"] for c in ("type", "id", "index", "name")]
            codes, new = nodes.add(get[0], get[1])
            edges.nodes += [Node(*(c.values[c.codes[i]] for c in get)) for i in new]
            parts[column].append(codes)
        codes, new = relations.add(kept["display_relation"])
        relation = kept["display_relation"]
        edges.relations += [relation.values[relation.codes[i]] for i in new]
        parts["relation"].append(codes)
        parts["row"].append(rows[keep])
    for name, blocks in parts.items():
        setattr(edges, name, np.concatenate(blocks) if blocks else np.zeros(0, np.int64))
    return edges


def _text(block: dict[str, Codes], i: int) -> str:
    return ",".join(c.values[c.codes[i]] for c in block.values())
