"""TFRecord shards of this project."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bridge_jax.data.dataset import decode_ids
from bridge_jax.data.embedding_formats.base import (
    ID_BLOCK,
    EmbeddingBlock,
    EmbeddingFile,
    named_errors,
)
from bridge_jax.data.manifest import NodeTable
from bridge_jax.data.tfrecord import DTYPES, Shard, stream_shard


class ShardFile(EmbeddingFile):
    """One TFRecord shard of a node type."""

    has_checked_ids = True

    def __init__(self, root: Path, table: NodeTable, shard: Shard) -> None:
        """Reads nothing yet.

        Args:
          root: Dataset directory, or output folder of an export or a projection.
          table: Manifest entry or sidecar that lists the shard.
          shard: The shard.
        """
        self._root, self._table, self._shard = root, table, shard
        self.path, self.num_rows, self.dim = root / shard.file, shard.records, table.dim
        self.id_bytes, self.encoder_spec = table.id_bytes, table.encoder_spec
        self.fingerprint = [shard.file, shard.records, shard.sha256]

    def ids(self) -> Iterator[list[str]]:
        return (block.ids for block in self.blocks(0, self.num_rows, ID_BLOCK, self.dim))

    def blocks(self, start: int, stop: int, block_size: int, dim: int) -> Iterator[EmbeddingBlock]:
        """Reads all rows in blocks; a shard cannot be read in part, because its checksum cannot."""
        first_row = 0
        for columns in stream_shard(self._root, self._shard, self._table.layout, block_size):
            with named_errors(self.path):
                ids = decode_ids(columns["id"])
            x = np.ascontiguousarray(columns["embedding"]).view(DTYPES[self._table.dtype])
            yield EmbeddingBlock(first_row, ids, x, {})
            first_row += len(ids)
