"""DeepBLAST's protein language model (4096 dimensions): two LSTM layers, read in both directions.

The weights are `lstm2x.pt` of package bio-embeddings-deepblast. Its code cannot be imported with
current libraries, so the forward pass is implemented here. Both directions share their weights and
run as one batch. As in the original, the state of a residue depends on the residues before it (or
after it), but not on the residue itself.

References:
  Bepler and Berger, "Learning protein sequence embeddings using information from structure", 2019.
  Morton et al., "Protein Structural Alignments From Sequence", 2020.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Chunk,
    Family,
    PreparedInput,
    Settings,
    hash_arrays,
    import_optional,
    parse_protein,
    prepare_each,
    split_long_input,
    state_dict_arrays,
    torch_device,
)
from bridge_jax.errors import InputError

# Embedding row of each amino acid; row 0 is the stop sign before the first residue.
_TOKEN_IDS = {c: i + 1 for i, c in enumerate("ARNDCQEGHILKMFPSTWYVX")}
_TOKEN_IDS |= {"O": _TOKEN_IDS["K"], "U": _TOKEN_IDS["C"]}


class DeepBlast:
    """Frozen DeepBLAST language model on one device."""

    name = "deepblast"
    requires_equal_lengths = False

    def __init__(self, settings: Settings) -> None:
        self.torch = torch = import_optional("torch")
        self.device = torch_device(settings.device)
        state = torch.load(_weights_path(), map_location="cpu", weights_only=True)
        self.digest = hash_arrays(state_dict_arrays(state))
        self.embedding = state["embed.weight"].to(self.device)
        self.layers = []
        for i in range(2):
            weights = {k.split(".", 2)[2]: v for k, v in state.items() if k.startswith(f"rnn.{i}.")}
            hidden, width = weights["weight_hh_l0"].shape[1], weights["weight_ih_l0"].shape[1]
            layer = torch.nn.LSTM(width, hidden, batch_first=True)
            layer.load_state_dict(weights)
            self.layers.append(layer.eval().to(self.device))
        self.length_policy = settings.length_policy
        self.max_length = settings.resolve_max_length(FAMILY.max_length, None)

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Tokenises proteins, one token per residue."""
        return prepare_each(texts, self._prepare)

    def _prepare(self, text: str) -> PreparedInput:
        sequence = parse_protein(text)
        parts = split_long_input(sequence, self.max_length, self.length_policy, "residues")
        chunks = [
            Chunk(
                np.array([_TOKEN_IDS.get(c, _TOKEN_IDS["X"]) for c in part]), len(part), len(part)
            )
            for part in parts
        ]
        return PreparedInput(tuple(chunks), len(sequence))

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Returns mean states over residues, a float32 tensor `[chunks, 4096]`.

        The four quarters are layer 1 forwards, layer 1 backwards, layer 2 forwards and layer 2
        backwards.
        """
        torch = self.torch
        n, width = len(chunks), max(c.length for c in chunks)
        # Each row is the stop sign and all residues but the last; first forwards, then backwards.
        token_ids = np.zeros((2 * n, width), np.int64)
        for i, c in enumerate(chunks):
            token_ids[i, 1 : c.length] = c.tokens[:-1]
            token_ids[n + i, 1 : c.length] = c.tokens[:0:-1]
        lengths = np.array([c.length for c in chunks], np.float32)
        weights = (np.arange(width) < lengths[:, None]).astype(np.float32) / lengths[:, None]
        with torch.inference_mode():
            weights = torch.from_numpy(np.concatenate([weights, weights])).to(self.device)
            x = self.embedding[torch.from_numpy(token_ids).to(self.device)]
            means = []
            for layer in self.layers:
                x, _ = layer(x)
                mean = torch.bmm(weights[:, None], x)[:, 0]
                means += [mean[:n], mean[n:]]
            return torch.cat(means, dim=1)


def _weights_path() -> Path:
    spec = find_spec("deepblast")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "pretrained_models" / "lstm2x.pt"
        if path.is_file():
            return path
    raise InputError("this encoder needs lstm2x.pt: pip install 'bridge_jax[deepblast]'")


FAMILY = Family(
    summary="DeepBLAST's LSTM over residues, 4096; pip install 'bridge_jax[deepblast]'",
    load=DeepBlast,
    modality="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=8192,
    takes_checkpoint=False,
    poolings=("residue-mean",),
)
