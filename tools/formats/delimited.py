"""Streaming reader of delimited text files; see `bridge_jax.data.delimited_file`."""

from bridge_jax.data.delimited_file import DelimitedFile, first_line, zip_columns
from bridge_jax.data.table_chunk import Column, Finding, TableChunk

__all__ = ["Column", "DelimitedFile", "Finding", "TableChunk", "first_line", "zip_columns"]
