"""Matching of similarity tables to the nodes of a dataset."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge_jax.data.findings import Findings
from bridge_jax.data.similarity import SimilarityPairs, best_pairs
from bridge_jax.errors import InputError, unknown

from ..formats.edges import Edges
from ..formats.layout import delimiter_in
from ..formats.similarity import SimilarityRows, open_similarity
from ..formats.table_chunk import Column, Finding
from .id_matching import FileMatch, MatchOptions, check_match
from .node_lookup import NodeLookup
from .node_matching import MatchedNodes

_UNKNOWN, _WITHOUT_EMBEDDING = -1, -2


@dataclass(frozen=True)
class MatchedPairs:
    """Similar nodes of one type, and what became of the rows of their table.

    Attributes:
      node_type: Node type.
      pairs: The pairs.
      match: How the ids of the table were matched; None if they did not come from a file.
      counts: Numbers of rows by their result; they sum to `rows`.
      notices: Rows that cannot be used.
    """

    node_type: str
    pairs: SimilarityPairs
    match: FileMatch | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notices: Sequence[Finding] = ()

    def manifest_counts(self) -> dict[str, int]:
        """Returns the counts as entries of the manifest."""
        return {f"similarity of {self.node_type}: {k}": n for k, n in self.counts.items()}

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {k}" for k, n in self.counts.items())
        return f"{self.match} ({counts})"


def read_similarities(
    arguments: Sequence[str], edges: Edges, nodes: MatchedNodes, options: MatchOptions
) -> dict[str, MatchedPairs]:
    """Reads the tables of `--similarity`.

    Args:
      arguments: Texts `TYPE=FILE`.
      edges: Edges of the source.
      nodes: Nodes of the dataset.
      options: How ids are compared.

    Returns:
      The pairs by node type.

    Raises:
      InputError: A node type is unknown or occurs twice, a table cannot be read, too few of its ids
        are nodes, or it has no usable pair.
    """
    lookup = NodeLookup(edges.nodes)
    for node_type, table in nodes.tables.items():
        lookup.add_ids(node_type, table.ids)
    similarity: dict[str, MatchedPairs] = {}
    for argument in arguments:
        name, _, file = argument.partition("=")
        if not name or not file:
            raise InputError(f"--similarity {argument!r}: expected <node type>=<file>")
        node_type = name if name in nodes.types else lookup.type_of_file(name)
        if node_type not in nodes.types:
            raise unknown("--similarity", name, nodes.types, "the node types with embeddings")
        if node_type in similarity:
            raise InputError(f"--similarity {argument!r}: {node_type} has a table already")
        ids = nodes.ids[nodes.types.index(node_type)]
        similarity[node_type] = match_pairs(Path(file), node_type, ids, lookup, options)
    return similarity


def match_pairs(
    path: Path, node_type: str, ids: Sequence[str], lookup: NodeLookup, options: MatchOptions
) -> MatchedPairs:
    """Reads a similarity table and matches its ids.

    Args:
      path: The table.
      node_type: Node type of its queries and targets.
      ids: Ids of the nodes of the dataset; their positions are the local ids.
      lookup: Nodes of the graph and of the embeddings.
      options: How ids are compared.

    Raises:
      InputError: The table cannot be read, too few of its ids are nodes, or it has no usable pair.
    """
    row_of = {i: row for row, i in enumerate(ids)}
    rows_by_text: dict[str, int] = {}

    def find(text: str) -> int:
        row = rows_by_text.get(text)
        if row is None:
            known = lookup.find(node_type, options.extract(text))
            row = _UNKNOWN if known is None else row_of.get(known, _WITHOUT_EMBEDDING)
            rows_by_text[text] = row
        return row

    def find_all(column: Column[str]) -> np.ndarray:
        used, codes = np.unique(column.codes, return_inverse=True)
        found = np.array([find(column.values[i]) for i in used.tolist()], np.int64)
        return found[codes] if len(used) else found

    counts: Counter[str] = Counter()
    notices = Findings()
    chunks = [_no_pairs()]
    file = open_similarity(path, delimiter_in(path, options.delimiter) if options.delimiter else "")
    for rows in file.read():
        _count_unread(rows, counts, notices)
        query, target = find_all(rows.query), find_all(rows.target)
        lowest = np.minimum(query, target)
        is_unknown = (query == _UNKNOWN) | (target == _UNKNOWN)
        is_self = (query == target) & (query >= 0)
        is_bare = (lowest == _WITHOUT_EMBEDDING) & ~is_unknown
        kept = ~(is_unknown | is_self | is_bare)
        counts["of a node with itself"] += int(is_self.sum())
        counts["with an unknown id"] += int(is_unknown.sum())
        counts["with a node without an embedding"] += int(is_bare.sum())
        chunks.append((query[kept], target[kept], rows.score[kept]))
    query, target, score = map(np.concatenate, zip(*chunks, strict=True))
    pairs = SimilarityPairs(*best_pairs(query, target, score, len(ids)), file.score, path.name)
    counts["repeated"] = len(query) - len(pairs.query)
    counts["pairs"] = len(pairs.query)
    match = _match(path, node_type, rows_by_text, lookup, options)
    order = ("rows", "pairs", *(k for k in counts if k not in ("rows", "pairs")))
    counted = {k: counts[k] for k in order if counts[k] or k in order[:2]}
    if not counted["pairs"]:
        reasons = ", ".join(f"{n} {k}" for k, n in counted.items() if k != "pairs")
        raise InputError(f"{path}: no pair of two {node_type} nodes: {reasons}")
    return MatchedPairs(node_type, pairs, match, counted, notices)


def _no_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)


def _count_unread(rows: SimilarityRows, counts: Counter[str], notices: list[Finding]) -> None:
    counts["rows"] += len(rows.rows) + len(rows.rejects)
    counts["rejected, see rejects.tsv"] += len(rows.rejects)
    notices += [f._replace(num_rows=0) for f in rows.rejects]
    notices += rows.notices


def _match(
    path: Path,
    node_type: str,
    rows_by_text: Mapping[str, int],
    lookup: NodeLookup,
    options: MatchOptions,
) -> FileMatch:
    unmatched = [text for text, row in rows_by_text.items() if row == _UNKNOWN]
    match = FileMatch(
        path.name,
        node_type,
        len(rows_by_text),
        len(rows_by_text) - len(unmatched),
        unmatched[0] if unmatched else "",
        lookup.example(node_type),
    )
    if rows_by_text:
        check_match(lookup, match, None, list(rows_by_text), unmatched, options)
    return match
