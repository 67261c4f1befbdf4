"""Specification of the encoder that made embeddings, and the check that two of them agree.

A specification says how a text, SMILES or sequence becomes a vector, so that vectors of new nodes
can be made in the same way (`bridge_jax.encoders.from_spec`) and others can be told apart.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.errors import InputError

SPEC_KEY = "encoder_spec"  # in a manifest, a sidecar and an exported bridge
JOIN = ". "  # between the parts of a text
NORMALISATIONS = ("none", "l2")
# Names that mean one part of a text, whatever a table calls its column.
_PARTS = {
    "node_name": "name", "mondo_name": "name", "protein names": "name", "gene names": "name",
    "mondo_definition": "definition", "description": "definition",
}  # fmt: skip
_POLICIES = {"truncate": "first {} {}", "windows": "windows of {} {}", "fail": "at most {} {}"}


@dataclass(frozen=True)
class EncoderSpec:
    """How an input became a vector; an empty field, or 0, is unknown.

    Attributes:
      encoder: `--encoder` of `tools.export_embeddings`, e.g. `minilm` or `unirep:256`.
      weights: SHA-256 of weights and vocabulary, in hexadecimal.
      pooling: Pooling of token states into one vector, e.g. `mean`.
      max_length: Maximum length of an input.
      unit: Unit of `max_length`, e.g. `tokens`; special tokens are counted as tokens.
      length_policy: Policy for longer inputs: `truncate`, `windows` or `fail`.
      text: Parts of the input, joined by ". ": `name. definition`, `smiles` or `sequence`. A part
        without a value is left out.
      normalisation: `l2` if the vectors were scaled to unit length, `none` if they were not.
      dtype: Dtype that the vectors were rounded to. It does not change the encoder.
      projection: What a bridge made of the vectors; empty if they are the encoder's own.
    """

    encoder: str
    weights: str = ""
    pooling: str = ""
    max_length: int = 0
    unit: str = ""
    length_policy: str = ""
    text: str = ""
    normalisation: str = ""
    dtype: str = ""
    projection: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON values of the known fields."""
        return {k: v for k, v in asdict(self).items() if v}

    def differences(self, other: "EncoderSpec") -> list[str]:
        """Returns the names of the fields that are known in both and differ; never `dtype`.

        Equal weights may lie in folders of different names, but one family reads them. What a
        bridge projected is never the encoder's own vector.
        """
        names = [f.name for f in fields(self) if f.name not in ("dtype", "projection")]
        pairs = {n: (getattr(self, n), getattr(other, n)) for n in names}
        if self.weights and other.weights:
            pairs["encoder"] = (self.encoder.split(":")[0], other.encoder.split(":")[0])
        different = [n for n, (a, b) in pairs.items() if a and b and a != b]
        return different + ["projection"] * (self.projection != other.projection)

    def __str__(self) -> str:
        name = f"{self.encoder}@{self.weights[:12]}" if self.weights else self.encoder
        unit_length = "unit length" if self.normalisation == "l2" else ""
        words = [self.projection, name, self.pooling, self._length(), unit_length]
        return ", ".join([*filter(None, words), *([f'of "{self.text}"'] if self.text else [])])

    def _length(self) -> str:
        if not self.max_length:
            return ""
        return describe_length_policy(self.length_policy, self.max_length, self.unit).strip()


def describe_length_policy(length_policy: str, max_length: int, unit: str) -> str:
    """Returns the policy for long inputs in words, e.g. `first 512 tokens`."""
    return _POLICIES.get(length_policy, "length {} {}").format(max_length, unit)


def normalise_rows(x: np.ndarray, normalisation: str) -> np.ndarray:
    """Scales vectors to unit length if the normalisation is `l2`; zero vectors stay.

    Args:
      x: Vectors `[n, dim]`.
      normalisation: `l2`, or anything else to return the vectors as they are.
    """
    if normalisation != "l2":
        return x
    norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1), x.dtype)


def text_of_columns(columns: Sequence[str]) -> str:
    """Returns the field `text` of a specification for the columns of a table."""
    return JOIN.join(_PARTS.get(c.casefold(), c) for c in columns)


def spec_from_json(value: Any) -> EncoderSpec | None:
    """Builds a specification from its JSON values; unknown fields are ignored.

    Args:
      value: JSON object; None for an unknown encoder.

    Raises:
      TypeError: A field has the wrong type, or the encoder is missing.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{SPEC_KEY}: {value!r} is not an object")
    known = {f.name: value[f.name] for f in fields(EncoderSpec) if f.name in value}
    for name, v in known.items():
        if name == "max_length":
            is_valid = type(v) is int and v >= 0
        else:
            is_valid = isinstance(v, str) and v.isprintable()
        if not is_valid:
            noun = "a whole number" if name == "max_length" else "a line of text"
            raise TypeError(f"{SPEC_KEY}: {name} {v!r} is not {noun}")
    if not known.get("encoder"):
        raise TypeError(f"{SPEC_KEY}: the field encoder is missing")
    return EncoderSpec(**known)


def read_spec_beside(path: Path) -> EncoderSpec | None:
    """Reads the specification in the JSON file beside a file of embeddings.

    Args:
      path: File of embeddings, e.g. `drug.npz`; `drug.json` beside it may hold the field
        `encoder_spec`, as the sidecar of an export does.

    Returns:
      The specification; None if there is no such file or field.

    Raises:
      InputError: The field cannot be read.
    """
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    sidecar = path.with_name(f"{stem}.json")
    try:
        value = json.loads(sidecar.read_bytes()) if sidecar.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None  # something else than a sidecar
    try:
        return spec_from_json(value.get(SPEC_KEY)) if isinstance(value, dict) else None
    except TypeError as e:
        raise InputError(f"{sidecar}: cannot be read: {e}; export the embeddings again") from e


def check_same_encoder(
    noun: str,
    trained: EncoderSpec | None,
    given: EncoderSpec | None,
    allow_other: bool = False,
    remedy: str = "pass --allow-other-encoder",
) -> None:
    """Checks that embeddings were made as those that a bridge was trained on.

    An unknown specification cannot be compared; a notice on standard error says so, once.

    Args:
      noun: The embeddings, for messages.
      trained: Specification of the dataset.
      given: Specification of the embeddings.
      allow_other: Whether another encoder is accepted, with a notice.
      remedy: How the caller accepts another encoder.

    Raises:
      InputError: The specifications differ, and `allow_other` is False.
    """
    if trained is None or given is None:
        whose = ["of the dataset"] * (trained is None) + ["of these embeddings"] * (given is None)
        known = f"; the dataset's is {trained}" if trained else ""
        which = " and ".join(whose)
        notice_once(f"{noun}: the encoder {which} is not recorded, so it is not compared{known}")
        return
    names = trained.differences(given)
    if not names:
        return
    text = f"{noun}: trained on {trained}, given {given} (other {', '.join(names)})"
    if not allow_other:
        raise InputError(f"{text}; encode them as in training, or {remedy} to use them as they are")
    notice_once(text)


@cache
def notice_once(text: str) -> None:
    """Prints a notice to standard error, once in a process."""
    print(f"notice: {text}", file=sys.stderr)
