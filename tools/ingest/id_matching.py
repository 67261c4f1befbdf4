"""Comparison of the ids of a file with those of a graph, and how many of them agree."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge_jax.errors import InputError

from .node_lookup import NodeLookup, canonical_id

MIN_MATCHED = 0.5  # a file with fewer matched ids is refused
# A file is taken for one of node indices if so many of the ids are unmatched, and so many of these
# are node indices. A few numbers that are both do not suffice.
_MIN_UNMATCHED, _MIN_INDEX_SHARE = 0.05, 0.9


@dataclass(frozen=True)
class MatchOptions:
    """How the ids of embeddings and of feature tables are compared with the graph's.

    Attributes:
      allow_unmatched: Whether to accept a file few of whose ids are nodes of the graph.
      id_pattern: Regular expression with one group, which is the id; an id in which it is not found
        stays as it is. Default: none.
      node_index_files: Stems of the embedding files whose ids are node indices of the source.
      id_column: Column of the feature tables with the ids; default: a usual name.
      delimiter: Field separator of the feature tables; default: found.
    """

    allow_unmatched: bool = False
    id_pattern: re.Pattern[str] | None = None
    node_index_files: Sequence[str] = ()
    id_column: str = ""
    delimiter: str = ""

    def extract(self, id_: str) -> str:
        """Returns the part of an id that `id_pattern` finds, in its canonical spelling."""
        found = self.id_pattern.search(id_) if self.id_pattern else None
        return canonical_id(found[1] or "" if found else id_)


EXACT = MatchOptions()


def compile_id_pattern(pattern: str | None) -> re.Pattern[str] | None:
    r"""Compiles the value of `--id-pattern`, such as `\|(.+)\|` or `(.+)\.\d+$`.

    Raises:
      InputError: It is no regular expression with one group.
    """
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as e:
        raise InputError(f"--id-pattern {pattern!r}: not a regular expression: {e}") from e
    if compiled.groups != 1:
        raise InputError(
            f"--id-pattern {pattern!r}: {compiled.groups} groups; put the id, and nothing else, "
            r"into parentheses, e.g. '\|(.+)\|' for sp|P04637|P53_HUMAN"
        )
    return compiled


@dataclass(frozen=True)
class FileMatch:
    """How many ids of a file are nodes of the graph.

    Attributes:
      file: Name of the file.
      node_type: Node type of the file.
      num_ids: Number of ids in the file.
      num_matched: Number of them that are nodes of the graph.
      unmatched: An id that is not; empty if there is none.
      graph_id: Id of a node of this type in the graph.
      outcome: What becomes of the unmatched ids.
    """

    file: str
    node_type: str
    num_ids: int
    num_matched: int
    unmatched: str = ""
    graph_id: str = ""
    outcome: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.file}: {self.num_matched} of {self.num_ids} ids are {self.node_type} nodes of "
            "the graph"
        )
        if self.num_matched < self.num_ids:
            text += f"; not matched, e.g. {self.unmatched!r}; the graph has e.g. {self.graph_id!r}"
        return text + (f" ({self.outcome})" if self.outcome else "")


def check_match(
    lookup: NodeLookup,
    match: FileMatch,
    stem: str | None,
    ids: Sequence[str],
    unmatched: Sequence[str],
    options: MatchOptions,
) -> None:
    """Checks that the ids of a file are those of the graph.

    Args:
      lookup: Nodes of the graph.
      match: Result of the match.
      stem: Name without suffix of a file of embeddings whose ids may turn out to be node indices;
        None for another file.
      ids: Ids of the file, as they were looked up.
      unmatched: Those that are not nodes.
      options: How ids are compared.

    Raises:
      InputError: None of the ids is a node; or fewer than `MIN_MATCHED` of them are, or the others
        are node indices, and `allow_unmatched` is not set.
    """
    if not unmatched:
        return
    index_remedy = _index_remedy(lookup, match, stem, ids) if stem else ""
    if not match.num_matched:
        raise InputError(
            f"{match.file}: none of the {match.num_ids} ids is a {match.node_type} of the graph, "
            f"e.g. {match.unmatched!r}; the graph has e.g. {match.graph_id!r}{index_remedy}"
        )
    if options.allow_unmatched:
        return
    if index_remedy:
        raise InputError(f"{match}{index_remedy}, or accept these with --allow-unmatched")
    if match.num_matched < MIN_MATCHED * match.num_ids:
        raise InputError(
            f"{match}; fewer than {MIN_MATCHED:.0%} are matched: change the ids, cut them out with "
            "--id-pattern, or accept these with --allow-unmatched"
        )


def _index_remedy(lookup: NodeLookup, match: FileMatch, stem: str, ids: Sequence[str]) -> str:
    """Returns the end of a message if the ids are node indices rather than ids; "" otherwise.

    They are if more of them are indices than ids, or if those that are no ids are indices.
    """
    is_index = [lookup.find_index(match.node_type, i) is not None for i in ids]
    is_id = [lookup.find(match.node_type, i) is not None for i in ids]
    num_unmatched = is_id.count(False)
    num_index_only = sum(i and not f for i, f in zip(is_index, is_id, strict=True))
    more_indices = sum(is_index) > match.num_matched
    rest_are_indices = (
        num_unmatched >= _MIN_UNMATCHED * len(ids)
        and num_index_only >= _MIN_INDEX_SHARE * num_unmatched
    )
    if not num_index_only or not (more_indices or rest_are_indices):
        return ""
    return (
        f"; {sum(is_index)} of {len(ids)} ids are node indices of the graph: if they all are, say "
        f"so with --node-index-ids {stem}"
    )
