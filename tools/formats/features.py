"""Reader of node feature tables; see `bridge_jax.encoders.entities.features`."""

from bridge_jax.encoders.entities.features import (
    ID_COLUMNS,
    TEXT_COLUMNS,
    FeatureColumns,
    FeatureRow,
    choose_columns,
    read_features,
    read_header,
)

__all__ = [
    "ID_COLUMNS",
    "TEXT_COLUMNS",
    "FeatureColumns",
    "FeatureRow",
    "choose_columns",
    "read_features",
    "read_header",
]
