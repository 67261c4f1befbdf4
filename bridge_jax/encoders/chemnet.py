"""ChemNet (512): convolutions and two LSTM layers over SMILES, from the weights inside fcd.

The network reads 350 positions, the last LSTM backwards through the padding, so the padding is
part of its input: every SMILES is padded to 350 (or to its own length where that is longer), and
a batch holds one width only. Source: Preuer et al., "Fréchet ChemNet Distance", 2018.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
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
    molecule,
    need,
    torch_arrays,
    torch_device,
)

WIDTH = 350
_TOKEN = re.compile("Br|Cl|Si|.")
_END = "."


class ChemNet:
    """The frozen network on one device."""

    name = "chemnet"
    equal_widths = True

    def __init__(self, settings: Settings) -> None:
        fcd = need("fcd.utils")
        path = Path(fcd.__file__).with_name("ChemNet_v0.13_pretrained.pt")
        self.torch = need("torch")
        self.device = torch_device(settings.device)
        layers = self.torch.load(path, map_location="cpu", weights_only=True)
        self.model = fcd.load_imported_model(layers).eval().to(self.device)
        self.letters = fcd.get_one_hot("").shape[1]
        self.number = cache(lambda token: int(fcd.get_one_hot(token)[0].argmax()))
        self.long = settings.long
        self.max_length = settings.limit(FAMILY.max_length, None)
        self.digest = digest(torch_arrays(self.model.state_dict()))

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """Tokenise; each piece is the positions' letters, -1 where there is only padding."""
        return each(texts, self._prepare)

    def _prepare(self, smiles: str) -> Prepared:
        molecule(smiles)
        tokens = _TOKEN.findall(smiles.strip())
        (kept,) = cut(tokens, self.max_length, self.long, "tokens")
        width = max(WIDTH, len(kept) + 1)
        letters = np.full(width, -1, np.int64)
        letters[: len(kept) + 1] = [self.number(t) for t in (*kept, _END)]
        return Prepared((Piece(letters, width, len(kept)),), len(tokens))

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """Run one batch of equal widths: the last LSTM's last state, float32 `[pieces, 512]`."""
        torch = self.torch
        with torch.inference_mode():
            letters = torch.from_numpy(np.stack([p.tokens for p in pieces])).to(self.device)
            known = (letters >= 0).float()[:, None] / self.letters
            x = torch.zeros(len(pieces), self.letters, letters.shape[1], device=self.device)
            return self.model(x.scatter_(1, letters.clamp(min=0)[:, None], known))


def _load(settings: Settings) -> Encoder:
    return ChemNet(settings)


FAMILY = Family(
    summary="ChemNet SMILES encoder with its weights, 512",
    load=_load,
    reads="smiles",
    unit="tokens",
    max_length=WIDTH - 1,
    batch_tokens=128 * WIDTH,
    checkpoints=False,
    poolings=("last",),
    long=("truncate", "fail"),
    shard_records=512,  # small ones cost nothing at one width, and the next is prepared meanwhile
)
