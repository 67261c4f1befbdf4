"""Encoder that an encoder specification describes, to encode new inputs like those of a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge_jax.data.encoder_spec import JOIN, NORMALISATIONS, EncoderSpec, normalise_rows
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Encoder, Family, Settings
from bridge_jax.encoders.batching import encode
from bridge_jax.errors import InputError, unknown


@dataclass(frozen=True)
class SpecEncoder:
    """Loaded encoder that follows a specification.

    Attributes:
      spec: The specification.
      encoder: The encoder.
      batch_tokens: Padded positions per batch.
    """

    spec: EncoderSpec
    encoder: Encoder
    batch_tokens: int

    def text(self, parts: Mapping[str, str]) -> str:
        """Returns the input for an entity, as the table of the dataset was read.

        Args:
          parts: Values by their names in `spec.text`, such as `name` and `definition`, `smiles` or
            `sequence`; a part without a value is left out.

        Raises:
          InputError: A part has another name.
        """
        names = self.spec.text.split(JOIN)
        for name in parts:
            if name not in names:
                raise unknown("part", name, names, f"the input of {self.spec.encoder}")
        return JOIN.join(parts[n] for n in names if parts.get(n))

    def encode(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """Encodes texts, SMILES or sequences.

        Returns:
          For each input its float32 vector, or the reason why there is none.

        Raises:
          InputError: A batch does not fit in memory.
        """
        vectors = encode(self.encoder, self.encoder.prepare(texts), self.batch_tokens)
        return [
            v if isinstance(v, str) else normalise_rows(v[None], self.spec.normalisation)[0]
            for v in vectors
        ]


def settings_of(
    spec: EncoderSpec, checkpoint: str = "", device: str = "auto"
) -> tuple[Family, Settings]:
    """Returns the registry entry and the settings of a specified encoder; loads nothing.

    Args:
      spec: The specification.
      checkpoint: Folder or hub name of the weights; default: the one that the specification names.
      device: `auto`, `cpu` or `cuda`.

    Raises:
      InputError: This version has no such encoder, pooling or length policy, or the specification
        is one of projected vectors.
    """
    name, _, own_checkpoint = spec.encoder.partition(":")
    if spec.projection:
        raise InputError(f"{spec}: vectors of a bridge, which no encoder makes from an input")
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS, "bridge_jax/encoders")
    family = ENCODERS[name]
    if checkpoint and not family.takes_checkpoint:
        raise InputError(f"{name} has only one checkpoint; leave out {checkpoint!r}")
    pooling = spec.pooling or family.poolings[0]
    length_policy = spec.length_policy or family.length_policies[0]
    for noun, value, known in (
        ("pooling", pooling, family.poolings),
        ("length policy", length_policy, family.length_policies),
        ("normalisation", spec.normalisation or "none", NORMALISATIONS),
    ):
        if value not in known:
            raise unknown(noun, value, known, name)
    return family, Settings(
        encoder=spec.encoder,
        checkpoint=checkpoint or own_checkpoint or family.checkpoint,
        device=device,
        max_length=spec.max_length or None,
        length_policy=length_policy,
        pooling=pooling,
    )


def modality_of(spec: EncoderSpec) -> str:
    """Returns what a specified encoder reads: `sequence`, `smiles` or `text`; loads nothing.

    Raises:
      InputError: This version has no such encoder, or no encoder made the vectors.
    """
    family, _ = settings_of(spec)
    return family.modality or (spec.text if spec.text in ("sequence", "smiles") else "text")


def encoder_from_spec(spec: EncoderSpec, checkpoint: str = "", device: str = "auto") -> SpecEncoder:
    """Opens the encoder that a specification describes.

    Args:
      spec: The specification of a node type, `manifest.table(node_type).encoder_spec`.
      checkpoint: Folder or hub name of the weights; default: the one that the specification names.
      device: `auto`, `cpu` or `cuda`.

    Raises:
      InputError: A package is missing (the message names the extra to install), the weights cannot
        be loaded, or they are not those of the specification.

    Example:
      >>> encoder = encoder_from_spec(manifest.table("disease").encoder_spec)
      >>> encoder.encode([encoder.text({"name": "Marfan syndrome"})])
    """
    family, settings = settings_of(spec, checkpoint, device)
    encoder = family.load(settings)
    if spec.weights and encoder.digest != spec.weights:
        remedy = "install the version of its package that made the dataset"
        if family.takes_checkpoint:
            remedy = "give the folder of those weights as checkpoint"
        raise InputError(
            f"{encoder.name}: its weights {encoder.digest[:12]} are not those of the "
            f"specification, {spec.weights[:12]}; {remedy}"
        )
    return SpecEncoder(spec, encoder, family.batch_tokens)
