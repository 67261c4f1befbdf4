"""ProtT5 protein language model: mean over residues, without the end token.

Its tokenizer reads residues separated by blanks. The rare residues U, Z, O and B are read as X, as
in its training.

References:
  Elnaggar et al., "ProtTrans: Toward Understanding the Language of Life Through Self-Supervised
  Learning", 2021.
"""

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.transformer import load

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, preprocess=" ".join, alphabet=ALPHABET)


FAMILY = Family(
    summary="ProtT5 folder or name (1024); mean over residues",
    load=_load,
    modality="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=4096,
    checkpoint="Rostlab/prot_t5_xl_half_uniref50-enc",
    poolings=("residue-mean", "mean"),
    shard_records=512,
)
