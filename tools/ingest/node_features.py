"""Names, synonyms and groups of nodes from a folder of feature tables."""

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from bridge_jax.data.findings import Findings, num_rows
from bridge_jax.errors import InputError, unknown

from ..formats.delimited import Finding
from ..formats.features import FeatureRow, choose_columns, read_features, read_header
from ..formats.layout import delimiter_in
from .id_matching import FileMatch, MatchOptions, check_match
from .node_lookup import NodeLookup

_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")


def read_names(
    lookup: NodeLookup,
    folder: str | None,
    options: MatchOptions,
    matches: list[FileMatch],
    notices: list[Finding],
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], list[str]]]:
    """Reads the names and synonyms of nodes from the feature tables of a folder.

    Args:
      lookup: Nodes of the graph and of the embeddings.
      folder: Folder of feature tables, or None.
      options: How ids are compared.
      matches: Receives how the ids of each table were matched.
      notices: Receives the files that are not read.

    Returns:
      Names by (type, id); and lists of synonyms by (type, id), each separated by `|`.

    Raises:
      InputError: A table cannot be read, or too few of its ids are nodes.
    """
    names: dict[tuple[str, str], str] = {}
    synonyms: dict[tuple[str, str], list[str]] = {}
    for path, node_type in _tables(lookup, folder, notices):
        rows, found = _match_rows(lookup, path, node_type, options, matches, notices)
        for row, id_ in zip(rows, found, strict=True):
            if id_ is not None and row.name:
                names.setdefault((node_type, id_), normalize("NFC", row.name))
            if id_ is not None and row.synonyms:
                synonyms.setdefault((node_type, id_), []).append(row.synonyms)
    return names, synonyms


def read_groups_of_nodes(
    lookup: NodeLookup, folder: str | None, column: str, options: MatchOptions
) -> dict[tuple[str, str], str]:
    """Reads the group of each node from the feature tables; tables without the column are skipped.

    Args:
      lookup: Nodes of the graph and of the embeddings.
      folder: Folder of feature tables.
      column: Name of the group column; an empty or a missing value (`NA`) is no group.
      options: How ids are compared.

    Returns:
      Groups by (type, id); "" for none.

    Raises:
      InputError: No table has the column.
    """
    groups: dict[tuple[str, str], str] = {}
    all_columns: set[str] = set()
    for path, node_type in _tables(lookup, folder, []):
        header = read_header(path, delimiter_in(path, options.delimiter))
        all_columns |= set(header)
        if column in header:
            rows, found = _match_rows(lookup, path, node_type, options, [], [], (column,))
            for row, id_ in zip(rows, found, strict=True):
                if id_ is not None:
                    groups[(node_type, id_)] = row.text  # "" if it is a missing value
    if not groups:
        where = str(folder) if folder else "--features (none given)"
        raise unknown("group column", column, sorted(all_columns), where)
    return groups


def _match_rows(
    lookup: NodeLookup,
    path: Path,
    node_type: str,
    options: MatchOptions,
    matches: list[FileMatch],
    notices: list[Finding],
    text_columns: tuple[str, ...] = (),
) -> tuple[list[FeatureRow], list[str | None]]:
    """Reads a feature table; returns its rows, and for each row the id of its node, or None."""
    delimiter = delimiter_in(path, options.delimiter)
    columns = choose_columns(path, options.id_column, text_columns, delimiter=delimiter)
    findings = Findings()
    rows = list(read_features(path, columns, delimiter=delimiter, findings=findings))
    num_rejects = num_rows(findings)
    notices += [f._replace(num_rows=0) for f in findings]
    by_index = columns.id == "node_index"
    ids = ["" if by_index else options.extract(row.id) for row in rows]
    found = [
        lookup.find(node_type, id_, row.node_index) if id_ else
        lookup.find_index(node_type, row.node_index)
        for id_, row in zip(ids, rows, strict=True)
    ]  # fmt: skip
    unmatched = [row.id for row, f in zip(rows, found, strict=True) if f is None]
    match = FileMatch(
        path.name,
        node_type,
        len(rows),
        len(rows) - len(unmatched),
        unmatched[0] if unmatched else "",
        lookup.example(node_type),
        f"{num_rejects} further rows cannot be used, see rejects.tsv" if num_rejects else "",
    )
    if rows:
        check_match(lookup, match, None, ids, unmatched, options)
        matches.append(match)
    return rows, found


def _tables(
    lookup: NodeLookup, folder: str | None, notices: list[Finding]
) -> Iterator[tuple[Path, str]]:
    """Yields the feature tables of a folder, plain or gzipped, with their node types."""
    if not folder:
        return
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder of feature tables")
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if not path.name.removesuffix(".gz").endswith(_SUFFIXES):
            text = f"expected <type>{', <type>'.join(_SUFFIXES)}, plain or gzipped"
            notices.append(Finding(path.name, 0, "is not read", text, 0))
        elif (node_type := lookup.type_of_file(path.name.split(".")[0])) is None:
            text = f"not read; the graph has the node types {', '.join(lookup.types)}"
            notices.append(Finding(path.name, 0, "fits no node type", text, 0))
        else:
            yield path, node_type
