"""ESM-2 protein language models: mean over residues, without special tokens.

References:
  Lin et al., "Evolutionary-scale prediction of atomic-level protein structure with a language
  model", 2023.
"""

import re
from dataclasses import replace

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.transformer import load

ALPHABET = "ACDEFGHIKLMNPQRSTVWYXBUZO"


def hub_name(checkpoint: str) -> str:
    """Expands a short name of ESM-2 to its name on the Hugging Face Hub.

    Args:
      checkpoint: Short name, e.g. `esm2_t33_650M`; other names and folders are returned unchanged.

    Returns:
      Name on the hub, e.g. `facebook/esm2_t33_650M_UR50D`.
    """
    return re.sub(r"^(esm2_t\d+_\d+[MB])(_UR50D)?$", r"facebook/\1_UR50D", checkpoint)


def _load(settings: Settings) -> Encoder:
    settings = replace(settings, checkpoint=hub_name(settings.checkpoint))
    return load(settings, FAMILY.max_length, alphabet=ALPHABET)


FAMILY = Family(
    summary="ESM-2 folder or name, such as esm2_t33_650M (1280); mean over residues",
    load=_load,
    modality="sequence",
    unit="residues",
    max_length=1022,
    batch_tokens=8192,
    checkpoint="esm2_t33_650M",
    poolings=("residue-mean", "mean", "cls"),
    shard_records=512,
)
