"""ChemBERTa: a RoBERTa over SMILES; an invalid SMILES is refused."""

from bridge_jax.encoders.base import Encoder, Family, Settings, molecule
from bridge_jax.encoders.transformer import load


def valid(smiles: str) -> str:
    """The SMILES itself, once RDKit has read it."""
    molecule(smiles)
    return smiles


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, spell=valid)


FAMILY = Family(
    summary="ChemBERTa folder or name, SMILES (768)",
    load=_load,
    reads="smiles",
    unit="tokens",
    max_length=512,
    batch_tokens=8192,
    checkpoint="seyonec/ChemBERTa-zinc-base-v1",
    poolings=("mean", "cls"),
)
