"""A question of the page: what is asked about which relation; it is also the page's address."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError, unknown
from bridge_jax.predictor import Predictor
from bridge_jax.retrieval.results import KNOWN_MODES

MAX_RESULTS = 100
MAX_TEXT_CHARS = 300  # of a search text, a name or an id
MAX_INPUT_CHARS = 10_000  # of a sequence, a SMILES or a text
MAX_IDS = 1_000
DEFAULT_K = 10
# A node of the dataset; a sequence, SMILES or text; an uploaded embedding; a list of ids.
MODES = ("node", "input", "file", "list")


@dataclass(frozen=True)
class Question:
    """A question whose values were checked.

    Attributes:
      triple_type: Triple type to retrieve along.
      mode: What is asked about, one of `MODES`.
      id: Id of a node.
      text: Sequence, SMILES or text.
      ids: Ids or names of nodes.
      upload: Uploaded file as the browser describes it.
      k: Number of results per query.
      known: What to do with known facts, one of `KNOWN_MODES`.
    """

    triple_type: TripleType
    mode: str = "node"
    id: str = ""
    text: str = ""
    ids: tuple[str, ...] = ()
    upload: Any = None
    k: int = DEFAULT_K
    known: str = KNOWN_MODES[0]

    def address(self) -> str:
        """Returns the query string that asks this question again; an upload is left out."""
        values = {
            "mode": "" if self.mode == "node" else self.mode,
            "type": self.triple_type.head,
            "relation": self.triple_type.relation,
            "target": self.triple_type.tail,
            "id": self.id,
            "text": self.text,
            "ids": "\n".join(self.ids),
            "k": "" if self.k == DEFAULT_K else str(self.k),
            "known": "" if self.known == KNOWN_MODES[0] else self.known,
        }
        return urlencode({name: value for name, value in values.items() if value})


def read_question(values: Mapping[str, Any], bridge: Predictor) -> Question:
    """Checks the values that a browser sent; any of them may be anything.

    Args:
      values: Values by name: `type`, `relation`, `target`, `mode`, `id`, `text`, `ids` (a list, or
        one per line), `upload`, `k` and `known`; all but `type` may be missing.
      bridge: The bridge that is asked.

    Raises:
      InputError: A value is not valid.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    mode = given.get("mode", "node")
    if mode not in MODES:
        raise InputError(f"mode: must be one of {', '.join(MODES)}")
    source = check_text("type", given.get("type"))
    heads = dict.fromkeys(t.head for t in bridge.triple_types)
    if source not in heads:
        raise unknown("node type", source, list(heads), "this page")
    relation, target = (
        check_text(name, given[name]) if name in given else None for name in ("relation", "target")
    )
    return Question(
        bridge.triple_type(source, relation, target),
        mode,
        check_text("id", given.get("id", "")),
        check_text("text", given.get("text", ""), MAX_INPUT_CHARS).strip(),
        _check_ids(given.get("ids", ())),
        given.get("upload"),
        check_number(given.get("k", DEFAULT_K)),
        check_known(given.get("known", KNOWN_MODES[0])),
    )


def _check_ids(ids: Any) -> tuple[str, ...]:
    if isinstance(ids, str):
        ids = [line.strip() for line in ids.splitlines() if line.strip()]
    if not isinstance(ids, list | tuple):
        raise InputError("ids: must be a list of texts")
    if len(ids) > MAX_IDS:
        raise InputError(
            f"ids: {len(ids):,} are more than {MAX_IDS:,}; send them in parts, or use "
            "python -m bridge_jax.retrieve"
        )
    return tuple(check_text("id", node_id) for node_id in ids)


def check_text(noun: str, value: Any, limit: int = MAX_TEXT_CHARS) -> str:
    """Returns a value if it is a text of limited length; otherwise raises an `InputError`."""
    if not isinstance(value, str):
        raise InputError(f"{noun}: must be a text")
    if len(value) > limit:
        raise InputError(f"{noun}: has {len(value):,} characters; at most {limit:,} are read")
    return value


def check_number(k: Any) -> int:
    """Returns a number of results; a text of digits is one, as in an address."""
    if isinstance(k, str) and k.isascii() and k.isdigit() and len(k) < 9:
        k = int(k)
    if isinstance(k, bool) or not isinstance(k, int | float) or not 1 <= k <= MAX_RESULTS:
        raise InputError(f"k: must be a number of results from 1 to {MAX_RESULTS}")
    return int(k)


def check_known(known: Any) -> str:
    """Returns what to do with known facts."""
    if known not in KNOWN_MODES:
        raise InputError(f"known: must be one of {', '.join(KNOWN_MODES)}")
    return str(known)
