"""ESM-2 protein language models: the mean over residues, without the special tokens.

Source: Lin et al., "Evolutionary-scale prediction of atomic-level protein structure", 2023.
"""

import re
from dataclasses import replace

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.transformer import load

ALPHABET = "ACDEFGHIKLMNPQRSTVWYXBUZO"


def hub_name(checkpoint: str) -> str:
    """`esm2_t33_650M` as `facebook/esm2_t33_650M_UR50D`; other names are left alone."""
    return re.sub(r"^(esm2_t\d+_\d+[MB])(_UR50D)?$", r"facebook/\1_UR50D", checkpoint)


def _load(settings: Settings) -> Encoder:
    settings = replace(settings, checkpoint=hub_name(settings.checkpoint))
    return load(settings, FAMILY.max_length, alphabet=ALPHABET)


FAMILY = Family(
    summary="ESM-2 folder or name, such as esm2_t33_650M (1280); mean over residues",
    load=_load,
    reads="sequence",
    unit="residues",
    max_length=1022,
    batch_tokens=8192,
    checkpoint="esm2_t33_650M",
    poolings=("residue-mean", "mean", "cls"),
    shard_records=512,
)
