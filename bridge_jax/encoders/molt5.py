"""MolT5: the encoder half of a T5 trained on SMILES and captions; the mean over tokens.

Source: Edwards et al., "Translation between molecules and natural language", 2022.
"""

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.chemberta import valid
from bridge_jax.encoders.transformer import load


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, spell=valid)


FAMILY = Family(
    summary="MolT5 folder or name, SMILES (1024)",
    load=_load,
    reads="smiles",
    unit="tokens",
    max_length=512,
    batch_tokens=8192,
    checkpoint="laituan245/molt5-large-smiles2caption",
    poolings=("mean", "residue-mean"),
)
