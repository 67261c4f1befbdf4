"""ChemBERTa: a RoBERTa over SMILES; invalid SMILES are rejected.

References:
  Chithrananda et al., "ChemBERTa: Large-Scale Self-Supervised Pretraining for Molecular Property
  Prediction", 2020.
"""

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.smiles import clean_smiles
from bridge_jax.encoders.transformer import load


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, preprocess=clean_smiles)


FAMILY = Family(
    summary="ChemBERTa folder or name, SMILES (768)",
    load=_load,
    modality="smiles",
    unit="tokens",
    max_length=512,
    batch_tokens=8192,
    checkpoint="seyonec/ChemBERTa-zinc-base-v1",
    poolings=("mean", "cls"),
)
