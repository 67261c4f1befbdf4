"""Rows of a table and findings; see `bridge_jax.data.table_chunk`."""

from bridge_jax.data.table_chunk import (
    Column,
    Finding,
    TableChunk,
    read_as,
)

__all__ = [
    "Column",
    "Finding",
    "TableChunk",
    "read_as",
]
