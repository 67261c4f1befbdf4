"""ProtT5 protein encoder: the mean over residues, without the end token.

It reads residues separated by blanks; the rare U, Z, O and B are read as X, as it was trained.
Source: Elnaggar et al., "ProtTrans", 2021.
"""

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.transformer import load

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"


def _load(settings: Settings) -> Encoder:
    return load(settings, FAMILY.max_length, spell=" ".join, alphabet=ALPHABET)


FAMILY = Family(
    summary="ProtT5 folder or name (1024); mean over residues",
    load=_load,
    reads="sequence",
    unit="residues",
    max_length=1024,
    batch_tokens=4096,
    checkpoint="Rostlab/prot_t5_xl_half_uniref50-enc",
    poolings=("residue-mean", "mean"),
    shard_records=512,
)
