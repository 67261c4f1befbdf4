"""MolT5: the encoder of a T5 that was trained on SMILES and captions; mean over tokens.

References:
  Edwards et al., "Translation between Molecules and Natural Language", 2022.
"""

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.smiles import clean_smiles
from bridge_jax.encoders.transformer import load


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, preprocess=clean_smiles)


FAMILY = Family(
    summary="MolT5 folder or name, SMILES (1024)",
    load=_load,
    modality="smiles",
    unit="tokens",
    max_length=512,
    batch_tokens=8192,
    checkpoint="laituan245/molt5-large-smiles2caption",
    poolings=("mean", "residue-mean"),
)
