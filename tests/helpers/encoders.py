"""A toy text encoder that needs no framework and no weights."""

import os
from collections.abc import Sequence

import numpy as np

from bridge_jax.encoders.base import Chunk, PreparedInput, Settings


class LetterCounter:
    """Encodes a text as its length, its number of vowels, and its number of As plus one half.

    Texts about Marfan syndrome are scaled beyond the range of float16.

    Attributes:
      num_encoded: Number of texts encoded so far.
    """

    name = "letters"
    requires_equal_lengths = False

    def __init__(self, settings: Settings) -> None:
        self.length_policy = settings.length_policy
        self.max_length = settings.max_length or 1000
        self.digest = os.environ.get("LETTERS_DIGEST", "0123456789abcdef")
        self.num_encoded = 0

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        return [
            PreparedInput((Chunk(t, len(t), len(t)),), len(t)) if t else "empty text" for t in texts
        ]

    def forward(self, chunks: Sequence[Chunk]) -> np.ndarray:
        self.num_encoded += len(chunks)
        texts = [p.tokens for p in chunks]
        counts = [[len(t), sum(c in "aeiou" for c in t), t.count("A") + 0.5] for t in texts]
        scale = [1e6 if "Marfan" in t else 1 for t in texts]
        return np.array(counts) * np.array(scale)[:, None]
