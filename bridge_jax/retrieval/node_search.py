"""Search of nodes by id, name or synonym over several node types.

Matches are ordered by how they fit: an exact id, an exact name, an exact synonym, the same without
regard to punctuation and accents (`her-2`, `Sjogren`), words that begin with the text, a text that
contains it, and, if few others fit, a similar spelling. Case never matters, and Unicode is
compared in its composed form.
"""

import bisect
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

FUZZY_SCORE = 78.0  # similarity of spelling, of 100
_MAX_OCCURRENCES = 4000  # of a text in all names, e.g. of a single letter
_FEW = 3  # matches below which similar spellings are added
_POSSESSIVE = re.compile(r"['’`´]s\b")


@runtime_checkable
class Nodes(Protocol):
    """Ids, names and synonyms of the nodes of one type: `NodeIndex`."""

    @property
    def node_type(self) -> str:
        """Type of the nodes."""

    @property
    def ids(self) -> Sequence[str]:
        """Id of each row."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each row."""

    @property
    def synonyms(self) -> Sequence[Sequence[str]]:
        """Synonyms of each row; empty if there are none."""


class Match(NamedTuple):
    """A node that a text may mean.

    Attributes:
      node_type: Type of the node.
      row: Row of the node in the table of its type.
      id: Its id.
      name: Its name.
      text: Id, name or synonym that fits.
      tier: How it fits, from 0 (exact id) to 6 (similar spelling).
    """

    node_type: str
    row: int
    id: str
    name: str
    text: str
    tier: int

    @property
    def is_exact(self) -> bool:
        """Whether the text is the node's id, name or synonym but for case and punctuation."""
        return self.tier <= TIERS.index("without punctuation")


TIERS = (
    "id", "name", "synonym", "without punctuation", "begins a word", "contained", "similar spelling"
)  # fmt: skip


class _Entry(NamedTuple):
    """A text by which a node can be found; `source` is its tier if it fits exactly."""

    group: int
    row: int
    source: int
    text: str


class NodeSearch:
    """Finds the nodes of some types that a text may mean."""

    def __init__(self, indexes: Sequence[Nodes]) -> None:
        """Indexes the nodes.

        Args:
          indexes: Nodes of each type.
        """
        self._indexes = list(indexes)
        self._entries = [*self._texts()]
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._squeezed: dict[str, list[int]] = defaultdict(list)
        self._words = []
        for i, entry in enumerate(self._entries):
            words = simplify(entry.text)
            self._exact[casefold(entry.text)].append(i)
            self._squeezed[words.replace(" ", "")].append(i)
            self._words.append(words)
        self._haystack = "\n".join(self._words)
        lengths = [len(words) + 1 for words in self._words]
        self._starts = [0]
        for length in lengths[:-1]:
            self._starts.append(self._starts[-1] + length)

    def search(self, text: str, limit: int, preferred: str = "") -> list[Match]:
        """Returns the nodes that a text may mean, best first.

        Args:
          text: Text to look for; an empty text matches nothing.
          limit: Maximum number of matches.
          preferred: Node type whose nodes come first among those that fit equally well.
        """
        wanted, words = casefold(text), simplify(text)
        if not wanted:
            return []
        tier_of: dict[int, int] = {}

        def add(entries: Sequence[int], tier: Callable[[int], int]) -> None:
            for i in entries:
                tier_of[i] = min(tier(i), tier_of.get(i, len(TIERS)))

        add(self._exact.get(wanted, ()), lambda i: self._entries[i].source)
        if words:
            add(self._squeezed.get(words.replace(" ", ""), ()), lambda _: 3)
            for i, begins_word in self._occurrences(words):
                add([i], lambda _, begins=begins_word: 4 if begins else 5)  # type: ignore[misc]
        if words and len(tier_of) < _FEW and all(tier > 3 for tier in tier_of.values()):
            add(self._similar(words, limit), lambda _: 6)
        return self._best(tier_of, limit, preferred)

    def _texts(self) -> Iterator[_Entry]:
        for group, nodes in enumerate(self._indexes):
            for row, (node, name) in enumerate(zip(nodes.ids, nodes.names, strict=True)):
                yield _Entry(group, row, 0, node)
                if name != node:
                    yield _Entry(group, row, 1, name)
                for synonym in nodes.synonyms[row] if nodes.synonyms else ():
                    yield _Entry(group, row, 2, synonym)

    def _occurrences(self, words: str) -> Iterator[tuple[int, bool]]:
        """Yields the entries that contain a text, and whether a word begins with it."""
        position = self._haystack.find(words)
        for _ in range(_MAX_OCCURRENCES):
            if position < 0:
                return
            begins_word = position == 0 or self._haystack[position - 1] in " \n"
            yield bisect.bisect_right(self._starts, position) - 1, begins_word
            position = self._haystack.find(words, position + 1)

    def _similar(self, words: str, limit: int) -> list[int]:
        from rapidfuzz import fuzz, process

        found = process.extract(
            words, self._words, scorer=fuzz.token_sort_ratio, limit=4 * limit,
            score_cutoff=FUZZY_SCORE,
        )  # fmt: skip
        return [i for _, _, i in found]

    def _best(self, tier_of: dict[int, int], limit: int, preferred: str) -> list[Match]:
        """Returns a match for each node, by its best entry."""

        def order(i: int) -> tuple[object, ...]:
            entry = self._entries[i]
            node_type = self._indexes[entry.group].node_type
            return (
                tier_of[i], node_type != preferred, entry.source, len(entry.text), entry.group,
                entry.row,
            )  # fmt: skip

        matches: dict[tuple[int, int], Match] = {}
        for i in sorted(tier_of, key=order):
            entry = self._entries[i]
            nodes = self._indexes[entry.group]
            matches.setdefault(
                (entry.group, entry.row),
                Match(
                    nodes.node_type,
                    entry.row,
                    nodes.ids[entry.row],
                    nodes.names[entry.row],
                    entry.text,
                    tier_of[i],
                ),
            )
            if len(matches) == limit:
                break
        return list(matches.values())


def casefold(text: str) -> str:
    """Returns a text for comparison without regard to case and repeated blanks."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def simplify(text: str) -> str:
    """Returns the words of a text, without case, accents, punctuation and possessive endings."""
    text = _POSSESSIVE.sub("", text)
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = (c for c in decomposed if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in letters).split())
