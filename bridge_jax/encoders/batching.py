"""Batched encoding: chunks sorted by length, batches of bounded size, one vector per input.

Batches depend only on the inputs and the batch size, so a shard that is encoded again gives the
same vectors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge_jax.encoders.base import Chunk, Encoder, PreparedInput
from bridge_jax.errors import InputError


def make_batches(
    chunks: Sequence[Chunk], batch_tokens: int, requires_equal_lengths: bool
) -> list[list[int]]:
    """Groups chunks of similar length.

    Args:
      chunks: Chunks in any order.
      batch_tokens: Padded positions per batch; a longer chunk is a batch of its own.
      requires_equal_lengths: Whether a batch may contain chunks of one length only.

    Returns:
      Indices into `chunks` for each batch. The longest chunks come first, so that a batch that
      does not fit in memory fails at once.
    """
    order = sorted(range(len(chunks)), key=lambda i: (-chunks[i].length, i))
    groups: list[list[int]] = []
    for i in order:
        longest = chunks[groups[-1][0]].length if groups else 0
        is_full = (len(groups[-1]) + 1) * longest > batch_tokens if groups else True
        if is_full or (requires_equal_lengths and chunks[i].length != longest):
            groups.append([])
        groups[-1].append(i)
    return groups


def encode(
    encoder: Encoder, prepared: Sequence[PreparedInput | str], batch_tokens: int
) -> list[np.ndarray | str]:
    """Encodes prepared inputs.

    Args:
      encoder: Loaded encoder.
      prepared: Return value of the encoder's `prepare`.
      batch_tokens: Padded positions per batch.

    Returns:
      For each input its float32 vector, or the reason why there is none. The vector of an input
      with several chunks is their mean, weighted by the number of tokens.

    Raises:
      InputError: A batch does not fit in memory.
    """
    chunks = [c for item in prepared if not isinstance(item, str) for c in item.chunks]
    batches = make_batches(chunks, batch_tokens, encoder.requires_equal_lengths)
    vectors: list[np.ndarray | str] = [""] * len(chunks)
    pending: tuple[list[int], Any] | None = None
    for batch in [*batches, None]:
        # The device computes this batch while the results of the previous one are fetched.
        dispatched = _dispatch(encoder, [chunks[i] for i in batch]) if batch else None
        if pending:
            previous, output = pending
            rows = _fetch(encoder, [chunks[i] for i in previous], output, batch_tokens)
            for i, row in zip(previous, rows, strict=True):
                vectors[i] = row
        pending = (batch, dispatched) if batch else None
    remaining = iter(vectors)
    return [
        item
        if isinstance(item, str)
        else _average(item.chunks, [next(remaining) for _ in item.chunks])
        for item in prepared
    ]


def _dispatch(encoder: Encoder, chunks: list[Chunk]) -> Any:
    """The encoder's output, or the exception that it raised."""
    try:
        return encoder.forward(chunks)
    except Exception as e:
        return e


def _fetch(
    encoder: Encoder, chunks: list[Chunk], output: Any, batch_tokens: int
) -> list[np.ndarray | str]:
    """The rows of a batch; after an error its chunks are encoded singly to find the faulty one."""
    error = output if isinstance(output, Exception) else None
    if error is None:
        try:
            return list(_to_numpy(output))
        except Exception as e:
            error = e
    if isinstance(error, InputError):
        raise error
    if _is_out_of_memory(error):
        raise InputError(
            f"a batch of {len(chunks)} inputs of up to {chunks[0].length} tokens does not fit in "
            f"memory; lower --batch-tokens (now {batch_tokens}) or --max-length"
        ) from error
    if len(chunks) == 1:
        return [f"encoder error: {type(error).__name__}: {str(error).strip().split(chr(10))[0]}"]
    return [_fetch(encoder, [c], _dispatch(encoder, [c]), batch_tokens)[0] for c in chunks]


def _to_numpy(output: Any) -> np.ndarray:
    if hasattr(output, "cpu"):
        output = output.float().cpu().numpy()
    return np.asarray(output, np.float32)


def _is_out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(
        phrase in text for phrase in ("OutOfMemory", "RESOURCE_EXHAUSTED", "can't allocate memory")
    )


def _average(chunks: Sequence[Chunk], rows: Sequence[np.ndarray | str]) -> np.ndarray | str:
    """The weighted mean of an input's chunks, or the reason why there is none."""
    for row in rows:
        if isinstance(row, str):
            return row
    vector = np.asarray(rows[0])
    if len(rows) > 1:
        weights = [c.num_tokens for c in chunks]
        vector = np.average(np.stack(rows), axis=0, weights=weights).astype(np.float32)
    if not np.isfinite(vector).all():
        return "non-finite output"
    return vector if vector.any() else "all-zero output"
