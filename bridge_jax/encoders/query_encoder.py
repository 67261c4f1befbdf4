"""Encodes new sequences, SMILES and texts as the nodes of a dataset were encoded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bridge_jax.data.encoder_spec import JOIN, EncoderSpec, notice_once
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.from_spec import SpecEncoder, encoder_from_spec, modality_of
from bridge_jax.errors import InputError

# A sequence, a SMILES or a text; of a text also its parts, such as a name and a definition.
Query = str | tuple[str, ...]
MODALITIES = ("sequence", "smiles", "text")
_WITH_ARTICLE = {"sequence": "a sequence", "smiles": "a SMILES", "text": "a text"}
_LABEL_LENGTH = 60
_NAME_WORDS = 8  # a longer text is taken for a sentence


class QueryEncoder:
    """Encodes queries by the specifications of a dataset; each encoder is loaded once and kept.

    Example:
      >>> encoder = QueryEncoder({"disease": manifest.table("disease").encoder_spec})
      >>> encoder.encode([("Marfan syndrome", "A disorder of connective tissue.")], "disease")
    """

    def __init__(self, specs: Mapping[str, EncoderSpec]) -> None:
        """Stores the specifications by node type; loads nothing."""
        self._specs = specs
        self._encoders: dict[tuple[EncoderSpec, str, str], SpecEncoder] = {}

    def modality(self, node_type: str) -> str:
        """Returns what a node type is encoded from: `sequence`, `smiles` or `text`.

        Raises:
          InputError: Its encoder is not recorded, or this version does not have it.
        """
        if node_type not in self._specs:
            raise InputError(
                f"{node_type}: the dataset does not record how its embeddings were made, so nothing"
                " new can be encoded like them; give an embedding by the same encoder instead "
                "(--embedding in a command, embedding= in Python)"
            )
        try:
            return modality_of(self._specs[node_type])
        except InputError as e:
            raise InputError(f"{node_type}: {e}") from e

    def check_modality(self, node_type: str, modality: str) -> None:
        """Checks that a node type is encoded from a modality.

        Args:
          node_type: Node type of the queries.
          modality: `sequence`, `smiles` or `text`.

        Raises:
          InputError: It is encoded from another one, or its encoder is not known.
        """
        expected = self.modality(node_type)
        if modality != expected:
            raise InputError(
                f"{node_type} is encoded from {_WITH_ARTICLE[expected]} "
                f"({self._specs[node_type].encoder}), not from {_WITH_ARTICLE[modality]}"
            )

    def encode(
        self, queries: Sequence[Query], node_type: str, checkpoint: str = "", device: str = "auto"
    ) -> np.ndarray:
        """Encodes queries of one node type.

        Args:
          queries: Sequences, SMILES or texts. A text may be a tuple of the parts that the
            specification names, such as a name and a definition.
          node_type: Node type that they are encoded like.
          checkpoint: Folder or hub name of the weights; default: the one that the specification
            names.
          device: `auto`, `cpu` or `cuda`.

        Returns:
          Embeddings as the encoder gives them, float32 `[n, dim]`.

        Raises:
          InputError: The encoder is not known or cannot be opened, or a query cannot be encoded.
        """
        vectors = self.try_encode(queries, node_type, checkpoint, device)
        for row, vector in enumerate(vectors):
            if isinstance(vector, str):
                noun = self.modality(node_type)
                raise InputError(
                    f"{noun} {row} of {node_type} ({label_of(queries[row])!r}): {vector}; correct "
                    "it or leave it out"
                )
        return np.stack([v for v in vectors if not isinstance(v, str)])

    def try_encode(
        self, queries: Sequence[Query], node_type: str, checkpoint: str = "", device: str = "auto"
    ) -> list[np.ndarray | str]:
        """Encodes queries as `encode` does, but returns the reason for those that it cannot.

        Returns:
          For each query its float32 vector, or the reason why there is none.
        """
        modality = self.modality(node_type)
        if not queries:
            raise InputError(f"nothing to encode; give {_WITH_ARTICLE[modality]} of {node_type}")
        encoder = self._open(node_type, checkpoint, device)
        texts = [self._text(encoder, query, node_type) for query in queries]
        if modality == "text":
            self._note_bare_names(queries, node_type)
        return encoder.encode(texts)

    def _open(self, node_type: str, checkpoint: str, device: str) -> SpecEncoder:
        """Returns the encoder of a node type; types that differ only in their text share one."""
        spec = self._specs[node_type]
        key = (replace(spec, text="", normalisation="", dtype=""), checkpoint, device)
        if key not in self._encoders:
            try:
                self._encoders[key] = encoder_from_spec(spec, checkpoint, device)
            except InputError as e:
                reason = str(e).removeprefix(f"--encoder {spec.encoder}: ")
                if (
                    "pip install" not in reason
                    and ENCODERS[spec.encoder.split(":")[0]].takes_checkpoint
                ):
                    reason += " (--checkpoint in a command, checkpoint= of encode in Python)"
                raise InputError(f"{node_type} is encoded by {spec.encoder}: {reason}") from e
        return replace(self._encoders[key], spec=spec)

    def _text(self, encoder: SpecEncoder, query: Query, node_type: str) -> str:
        """Returns what the encoder reads for a query."""
        if isinstance(query, str):
            return query.strip()
        parts = self._specs[node_type].text.split(JOIN)
        if len(query) > len(parts):
            raise InputError(
                f"{node_type} is encoded from {' and '.join(parts) or 'one text'}, but "
                f"{label_of(query)!r} has {len(query)} parts; leave out the rest"
            )
        named = dict(zip(parts, (part.strip() for part in query), strict=False))
        return encoder.text(named)

    def _note_bare_names(self, queries: Sequence[Query], node_type: str) -> None:
        """Prints a notice if a text is only the first of the parts that training read."""
        text = self._specs[node_type].text
        if JOIN in text and any(map(is_bare_name, queries)):
            notice_once(
                f"{node_type} was encoded from {text!r}, and a name alone gives poorer answers; add"
                " the definition (--definition in a command, the pair (name, definition) in Python)"
                f", or ask for a {node_type} of the dataset by its name"
            )


def is_bare_name(query: Query) -> bool:
    """Returns whether a text looks like a name without a definition behind it."""
    if isinstance(query, str):
        return JOIN not in query.strip() and len(query.split()) <= _NAME_WORDS
    return sum(bool(part.strip()) for part in query) == 1


def label_of(query: Query) -> str:
    """Returns the name of a query in results: its first part, cut if it is long."""
    text = " ".join((query if isinstance(query, str) else next(iter(query), "")).split())
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"


def labels_of(queries: Sequence[Query]) -> list[str]:
    """Returns a name for each query in results; of equal ones the later get a number."""
    return number_equal([label_of(query) for query in queries])


def number_equal(labels: Sequence[str]) -> list[str]:
    """Adds ` #2`, ` #3`, … to labels that occurred before."""
    seen: Counter[str] = Counter()
    numbered = []
    for label in labels:
        seen[label] += 1
        numbered.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return numbered
