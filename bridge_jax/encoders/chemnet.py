"""ChemNet (512 dimensions): convolutions and two LSTM layers over SMILES; weights of package fcd.

The network reads 350 positions, and its last LSTM reads the padding, too, from right to left.
Padding therefore belongs to the input: each SMILES is padded to 350 positions (or to its own
length if that is larger), and all SMILES of a batch have the same length.

References:
  Preuer et al., "Fréchet ChemNet Distance: A Metric for Generative Models for Molecules in Drug
  Discovery", 2018.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    INSTALL_SMILES,
    Chunk,
    Family,
    PreparedInput,
    Settings,
    hash_arrays,
    import_optional,
    prepare_each,
    split_long_input,
    state_dict_arrays,
    torch_device,
)
from bridge_jax.encoders.smiles import clean_smiles

PADDED_LENGTH = 350
_TOKEN = re.compile("Br|Cl|Si|.")
_END = "."


class ChemNet:
    """Frozen ChemNet on one device."""

    name = "chemnet"
    requires_equal_lengths = True

    def __init__(self, settings: Settings) -> None:
        fcd = import_optional("fcd.utils", INSTALL_SMILES)
        path = Path(fcd.__file__).with_name("ChemNet_v0.13_pretrained.pt")
        self.torch = import_optional("torch")
        self.device = torch_device(settings.device)
        layers = self.torch.load(path, map_location="cpu", weights_only=True)
        self.model = fcd.load_imported_model(layers).eval().to(self.device)
        self.vocabulary_size = fcd.get_one_hot("").shape[1]
        self.token_id = cache(lambda token: int(fcd.get_one_hot(token)[0].argmax()))
        self.length_policy = settings.length_policy
        self.max_length = settings.resolve_max_length(FAMILY.max_length, None)
        self.digest = hash_arrays(state_dict_arrays(self.model.state_dict()))

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Tokenises SMILES; token id -1 marks padding."""
        return prepare_each(texts, self._prepare)

    def _prepare(self, smiles: str) -> PreparedInput:
        tokens = _TOKEN.findall(clean_smiles(smiles))
        (kept,) = split_long_input(tokens, self.max_length, self.length_policy, "tokens")
        length = max(PADDED_LENGTH, len(kept) + 1)
        token_ids = np.full(length, -1, np.int64)
        token_ids[: len(kept) + 1] = [self.token_id(t) for t in (*kept, _END)]
        return PreparedInput((Chunk(token_ids, length, len(kept)),), len(tokens))

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Returns the final state of the last LSTM, a float32 tensor `[chunks, 512]`."""
        torch, size = self.torch, self.vocabulary_size
        with torch.inference_mode():
            token_ids = torch.from_numpy(np.stack([c.tokens for c in chunks])).to(self.device)
            # fcd divides its one-hot rows by the size of the vocabulary; padding rows are zero.
            values = (token_ids >= 0).float()[:, None] / size
            one_hot = torch.zeros(len(chunks), size, token_ids.shape[1], device=self.device)
            return self.model(one_hot.scatter_(1, token_ids.clamp(min=0)[:, None], values))


FAMILY = Family(
    summary="ChemNet SMILES encoder with its weights, 512",
    load=ChemNet,
    modality="smiles",
    unit="tokens",
    max_length=PADDED_LENGTH - 1,
    batch_tokens=128 * PADDED_LENGTH,
    takes_checkpoint=False,
    poolings=("last",),
    length_policies=("truncate", "fail"),
    # All inputs have one length, so small shards waste no padding, and the next one is tokenised
    # while this one is encoded.
    shard_records=512,
)
