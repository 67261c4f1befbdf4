"""Run an encoder over many texts: length-sorted batches of bounded size, then one vector a text.

The batches depend on the texts and the budget alone, never on what was done before, so that a
shard that is encoded again comes out the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge_jax.encoders.base import Encoder, Piece, Prepared
from bridge_jax.errors import InputError


def batches(pieces: Sequence[Piece], budget: int, equal_widths: bool) -> list[list[int]]:
    """Group pieces of like width.

    Args:
      pieces: in any order.
      budget: padded positions a batch; a single wider piece is a batch of its own.
      equal_widths: put only pieces of one width together.

    Returns:
      Positions in `pieces`, batch by batch; the widest first, so that a budget too large for the
      memory shows at once.
    """
    order = sorted(range(len(pieces)), key=lambda i: (-pieces[i].width, i))
    groups: list[list[int]] = []
    for i in order:
        widest = pieces[groups[-1][0]].width if groups else 0
        full = (len(groups[-1]) + 1) * widest > budget if groups else True
        if full or (equal_widths and pieces[i].width != widest):
            groups.append([])
        groups[-1].append(i)
    return groups


def encode(
    encoder: Encoder, prepared: Sequence[Prepared | str], budget: int
) -> list[np.ndarray | str]:
    """Encode texts.

    Args:
      encoder: a loaded encoder.
      prepared: what its `prepare` returned.
      budget: padded positions a batch.

    Returns:
      A float32 vector for each text, the mean of its pieces weighted by their tokens; or why
      there is none.

    Raises:
      InputError: a batch does not fit in memory.
    """
    pieces = [p for text in prepared if not isinstance(text, str) for p in text.pieces]
    groups = batches(pieces, budget, encoder.equal_widths)
    outputs: list[np.ndarray | str] = [""] * len(pieces)
    waiting: tuple[list[int], Any] | None = None
    for group in [*groups, None]:
        # One batch is always under way while the results of the one before it are fetched.
        started = _start(encoder, [pieces[i] for i in group]) if group else None
        if waiting:
            behind, result = waiting
            rows = _finish(encoder, [pieces[i] for i in behind], result, budget)
            for i, row in zip(behind, rows, strict=True):
                outputs[i] = row
        waiting = (group, started) if group else None
    rest = iter(outputs)
    return [
        text if isinstance(text, str) else _combine(text.pieces, [next(rest) for _ in text.pieces])
        for text in prepared
    ]


def _start(encoder: Encoder, pieces: list[Piece]) -> Any:
    try:
        return encoder.forward(pieces)
    except Exception as e:
        return e


def _finish(
    encoder: Encoder, pieces: list[Piece], result: Any, budget: int
) -> list[np.ndarray | str]:
    """The rows of a batch; after an error its pieces one by one, to find the one to blame."""
    error = result if isinstance(result, Exception) else None
    if error is None:
        try:
            return list(_to_host(result))
        except Exception as e:
            error = e
    if isinstance(error, InputError):
        raise error
    if _out_of_memory(error):
        raise InputError(
            f"a batch of {len(pieces)} inputs of up to {pieces[0].width} tokens does not fit in "
            f"memory; lower --batch-tokens (now {budget}) or --max-length"
        ) from error
    if len(pieces) == 1:
        return [f"encoder error: {type(error).__name__}: {str(error).strip().split(chr(10))[0]}"]
    return [_finish(encoder, [p], _start(encoder, [p]), budget)[0] for p in pieces]


def _to_host(result: Any) -> np.ndarray:
    if hasattr(result, "cpu"):
        result = result.float().cpu().numpy()
    return np.asarray(result, np.float32)


def _out_of_memory(error: Exception) -> bool:
    words = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(
        w in words for w in ("OutOfMemory", "RESOURCE_EXHAUSTED", "can't allocate memory")
    )


def _combine(pieces: Sequence[Piece], rows: Sequence[np.ndarray | str]) -> np.ndarray | str:
    for row in rows:
        if isinstance(row, str):
            return row
    vector = np.asarray(rows[0])
    if len(rows) > 1:
        weights = [p.weight for p in pieces]
        vector = np.average(np.stack(rows), axis=0, weights=weights).astype(np.float32)
    if not np.isfinite(vector).all():
        return "non-finite output"
    return vector if vector.any() else "all-zero output"
