"""Reader of feature tables in Parquet files; see `bridge_jax.encoders.entities.parquet_table`."""

from bridge_jax.encoders.entities.parquet_table import read_parquet

__all__ = ["read_parquet"]
