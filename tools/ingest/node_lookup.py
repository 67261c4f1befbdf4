"""Lookup of a graph's nodes by the ids and file names that people write.

Two spellings of an id are one id if they agree after Unicode's canonical composition (NFC) and if
whole-valued decimals are read as whole numbers: `9606.0` is `9606`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from unicodedata import normalize

import numpy as np

from bridge_jax.data.embedding_files import stem_matches_type
from bridge_jax.data.manifest import file_name
from bridge_jax.errors import InputError

from ..formats.delimited import Finding
from ..formats.edges import Edges, SourceNode

_WHOLE_DECIMAL = re.compile(r"([0-9]+)\.0+")


def canonical_id(id_: str) -> str:
    """Returns the one spelling that stands for all spellings of an id."""
    id_ = id_.strip()
    if not id_.isascii():
        id_ = normalize("NFC", id_)
    whole = _WHOLE_DECIMAL.fullmatch(id_) if id_.endswith("0") else None
    return whole[1] if whole else id_


def unify_spellings(edges: Edges) -> Edges:
    """Gives every node and relation of a source its canonical spelling.

    Nodes that differ only in their spelling become one node.

    Args:
      edges: Edges of the source.

    Returns:
      Edges with canonical ids and NFC names; a notice for each node that was joined to another.
    """
    nodes = [_canonical_node(node) for node in edges.nodes]
    relations = [normalize("NFC", r) for r in edges.relations]
    if nodes == edges.nodes and relations == edges.relations:
        return edges
    new_nodes, node_codes = _distinct([(n.type, n.id) for n in nodes])
    new_relations, relation_codes = _distinct(relations)
    notices = list(edges.notices)
    for code, first in enumerate(np.array(new_nodes)[node_codes].tolist()):
        if first != code:
            text = f"{tuple(edges.nodes[code])} after {tuple(edges.nodes[first])}"
            notices.append(Finding("", 0, "two spellings of one id", text, 0))
    return replace(
        edges,
        nodes=[nodes[i] for i in new_nodes],
        relations=[relations[i] for i in new_relations],
        head=node_codes[edges.head],
        relation=relation_codes[edges.relation],
        tail=node_codes[edges.tail],
        notices=notices,
        synonyms={
            (normalize("NFC", t), canonical_id(i)): s for (t, i), s in edges.synonyms.items()
        },
    )


def _canonical_node(node: SourceNode) -> SourceNode:
    index, name = canonical_id(node.node_index), normalize("NFC", node.name)
    return SourceNode(normalize("NFC", node.type), canonical_id(node.id), index, name)


def _distinct(keys: Sequence[object]) -> tuple[list[int], np.ndarray]:
    """Returns the position of each first occurrence, and the new code of every key."""
    code_of: dict[object, int] = {}
    codes = np.array([code_of.setdefault(k, len(code_of)) for k in keys], np.int64)
    return np.unique(codes, return_index=True)[1].tolist(), codes


class NodeLookup:
    """Finds nodes of a source by id, by typed id (`Gene::9021`) or by node index."""

    def __init__(self, nodes: Iterable[SourceNode]) -> None:
        """Indexes nodes with canonical ids; see `unify_spellings`."""
        self._ids: dict[str, set[str]] = {}
        self._id_of_index: dict[str, dict[str, str]] = {}
        self._examples: dict[str, str] = {}
        for node in nodes:
            self._ids.setdefault(node.type, set()).add(node.id)
            self._examples.setdefault(node.type, node.id)
            if node.node_index:
                self._id_of_index.setdefault(node.type, {})[node.node_index] = node.id
        self.types = tuple(sorted(self._ids))

    def find(self, node_type: str, id_: str, node_index: str = "") -> str | None:
        """Returns the graph's id of a node, or None.

        Args:
          node_type: Node type.
          id_: Id or typed id; may be empty.
          node_index: Node index, tried if the id is not found; default: none.
        """
        canonical = canonical_id(id_)
        ids = self._ids.get(node_type, ())
        for candidate in (canonical, without_type(canonical, node_type)):
            if candidate in ids:
                return candidate
        return self.find_index(node_type, node_index)

    def find_index(self, node_type: str, node_index: str) -> str | None:
        """Returns the graph's id of the node with a node index, or None."""
        return self._id_of_index.get(node_type, {}).get(canonical_id(node_index))

    def add_ids(self, node_type: str, ids: Iterable[str]) -> None:
        """Adds nodes that the edges do not name."""
        self._ids.setdefault(node_type, set()).update(ids)

    def add_indices(self, node_type: str, ids: Iterable[str]) -> None:
        """Adds nodes that the edges do not name, and whose id is their node index."""
        known, index = self._ids.get(node_type, set()), self._id_of_index.setdefault(node_type, {})
        for id_ in ids:
            if id_ not in known:
                index.setdefault(id_, id_)

    def example(self, node_type: str) -> str:
        """Returns the id of one node of a type."""
        return self._examples.get(node_type, "")

    def type_of_file(self, stem: str) -> str | None:
        """Returns the node type that a file belongs to, or None.

        The type's own name comes first, then its file name, then a short name (`protein` for
        `gene/protein`), then a name in another case.

        Args:
          stem: File name without suffixes.

        Raises:
          InputError: Several node types fit equally well.
        """
        stem = normalize("NFC", stem)
        for matches in (_is_name, _is_file_name, stem_matches_type, _is_name_in_other_case):
            fitting = [t for t in self.types if matches(stem, t)]
            if len(fitting) > 1:
                remedy = ""
                if len({file_name(t) for t in fitting}) == len(fitting):
                    remedy = f"; name the file {' or '.join(map(file_name, fitting))}"
                raise InputError(f"{stem!r} fits the node types {_quoted(fitting)}{remedy}")
            if fitting:
                return fitting[0]
        return None


def without_type(id_: str, node_type: str) -> str:
    """Removes the prefix `type::` from an id."""
    return id_.removeprefix(f"{node_type}::")


def check_file_names(node_types: Iterable[str]) -> None:
    """Checks that the node types of a dataset can be told apart by their file names.

    Raises:
      InputError: Two of them become one file name.
    """
    first_of: dict[str, str] = {}
    for node_type in node_types:
        first = first_of.setdefault(file_name(node_type).casefold(), node_type)
        if first != node_type:
            raise InputError(
                f"the node types {_quoted((first, node_type))} become one file name, "
                f"{file_name(node_type)}; rename one of them in the graph"
            )


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def _is_name(stem: str, node_type: str) -> bool:
    return stem == node_type


def _is_file_name(stem: str, node_type: str) -> bool:
    return stem == file_name(node_type)


def _is_name_in_other_case(stem: str, node_type: str) -> bool:
    short = {node_type, file_name(node_type), node_type.split("/")[-1]}
    return stem.casefold() in {name.casefold() for name in short}
