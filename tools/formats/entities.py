"""Readers of entities to encode; see `bridge_jax.encoders.entities.entity_file`."""

from bridge_jax.encoders.entities.entity_file import (
    FORMATS,
    Entities,
    detect_format,
    open_entities,
)

__all__ = [
    "FORMATS",
    "Entities",
    "detect_format",
    "open_entities",
]
