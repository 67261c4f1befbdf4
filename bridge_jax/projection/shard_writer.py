"""Writes the blocks of a projection to shards and commits each shard to the journal."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np

from bridge_jax.data.dataset import vector_faults
from bridge_jax.data.shard_journal import Journal
from bridge_jax.projection.outputs import OutputShard


class InputBlock(NamedTuple):
    """A block ready for the device, or the end of its slice.

    Attributes:
      k: Index of the slice.
      file: Name of the input file.
      num_rows: Number of rows read, rejected rows included; at the end of the slice, of all its
        blocks.
      ids: Ids of the rows that are kept; None at the end of the slice.
      records: Row numbers of `ids` in the file.
      x: Embeddings of `ids`, padded to the size of a block.
      rejects: File, row number, id and reason of each rejected row.
    """

    k: int
    file: str
    num_rows: int
    ids: list[str] | None
    records: list[int]
    x: np.ndarray
    rejects: list[list[Any]]


class ShardWriter:
    """Writes the blocks of one shard after the other; used by the writer thread alone.

    After the first failure it ignores the blocks that are still queued: a shard must not be
    continued behind a block that is missing.
    """

    def __init__(
        self, journal: Journal, open_shard: Callable[[int], AbstractContextManager[OutputShard]]
    ) -> None:
        """Writes nothing yet.

        Args:
          journal: Journal of the projection.
          open_shard: Returns the context that writes a shard.
        """
        self._journal, self._open_shard = journal, open_shard
        self._has_failed = False
        self._start()

    def _start(self) -> None:
        """Makes ready for the next shard."""
        self._stack = ExitStack()
        self._output: OutputShard | None = None
        self._rejects: list[list[Any]] = []
        self._num_records = 0
        self._ids_digest = hashlib.sha256()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        """Discards an incomplete shard."""
        self._discard(RuntimeError("stopped"))

    def _discard(self, error: BaseException) -> None:
        """Removes the temporary files of a shard; may raise `error` again, with the file's name."""
        stack = self._stack.pop_all()
        stack.__exit__(type(error), error, error.__traceback__)

    def write(self, block: InputBlock, z: jax.Array | None, on_rows: Callable[[int], None]) -> None:
        """Writes the vectors of a block, or commits the shard at the end of its slice."""
        if self._has_failed:
            return
        try:
            self._write(block, z, on_rows)
        except BaseException as e:
            self._has_failed = True
            self._discard(e)
            raise

    def _write(
        self, block: InputBlock, z: jax.Array | None, on_rows: Callable[[int], None]
    ) -> None:
        if block.ids is None:
            self._commit(block.k, block.num_rows)
            return
        self._rejects += block.rejects
        if z is not None:
            self._append(block, block.ids, np.asarray(z)[: len(block.ids)])
        on_rows(block.num_rows)

    def _append(self, block: InputBlock, ids: list[str], z: np.ndarray) -> None:
        faults = dict(vector_faults(z))
        if faults:
            for i, fault in faults.items():
                reason = f"its projection is {fault}"
                self._rejects.append([block.file, block.records[i], ids[i], reason])
            keep = [i for i in range(len(ids)) if i not in faults]
            ids, z = [ids[i] for i in keep], z[keep]
        if not ids:
            return
        if self._output is None:
            self._journal.remove_temporary_files(block.k)
            self._output = self._stack.enter_context(self._open_shard(block.k))
        self._output.append(ids, z)
        self._num_records += len(ids)
        self._ids_digest.update(("\n".join(ids) + "\n").encode())

    def _commit(self, k: int, num_rows: int) -> None:
        ids_sha256 = self._ids_digest.hexdigest()
        if self._num_records + len(self._rejects) != num_rows:
            raise RuntimeError(f"{num_rows} rows read, {self._num_records} written")
        entry: dict[str, Any] = {"rows": num_rows, "ids_sha256": ids_sha256, "shard": None}
        if self._output is not None:
            self._output.ids_sha256 = ids_sha256
            self._stack.close()
            entry |= self._output.files
        self._journal.write_entry(k, {**entry, "rejects": self._rejects})
        self._start()
