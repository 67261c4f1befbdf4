"""Any encoder that `transformers` can load: PubMedBERT, BioBERT, SapBERT, T5 encoders, …"""

from dataclasses import replace

from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.transformer import load
from bridge_jax.errors import InputError

SHORT_NAMES = {
    "pubmedbert": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",
    "biobert": "dmis-lab/biobert-base-cased-v1.2",
    "sapbert": "cambridgeltl/SapBERT-from-PubMedBERT-fulltext",
}


def _load(settings: Settings) -> Encoder:
    if not settings.checkpoint:
        raise InputError(
            f"--encoder hf: name a checkpoint, as in hf:FOLDER or hf:{', hf:'.join(SHORT_NAMES)}"
        )
    checkpoint = SHORT_NAMES.get(settings.checkpoint, settings.checkpoint)
    return load(replace(settings, checkpoint=checkpoint), FAMILY.max_length)


FAMILY = Family(
    summary=f"transformers checkpoint: a folder, a hub name, or {', '.join(SHORT_NAMES)}",
    load=_load,
    modality="",
    unit="tokens",
    max_length=512,
    batch_tokens=8192,
    poolings=("mean", "cls", "residue-mean"),
)
