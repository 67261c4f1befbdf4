"""Random mutations of a file's bytes, as disks, transfers and editors may cause them."""

from collections.abc import Callable

import numpy as np

# Characters that mean something to a parser.
MARKS = (
    *(b'"', b",", b"\n", b"\r", b"\t", b"\0", b"{", b"]"),
    *(b"\xef\xbb\xbf", b"\xff", b"\\u0000"),
)


def mutate(raw: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, list[str]]:
    """Applies one to three random mutations to the bytes of a file.

    Args:
      raw: Valid bytes.
      other: Bytes of the same file of another dataset.
      rng: Random generator.

    Returns:
      The mutated bytes, and the names of the mutations.
    """
    names = []
    for _ in range(int(rng.integers(1, 4))):
        name = list(MUTATIONS)[int(rng.integers(len(MUTATIONS)))]
        raw = MUTATIONS[name](raw, other, rng)
        names.append(name)
    return raw, names


def _span(raw: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Returns start and end of a random block; half of the blocks have at most eight bytes."""
    size = int(rng.integers(1, 9) if rng.random() < 0.5 else rng.integers(1, 2 + len(raw) // 4))
    start = int(rng.integers(0, max(1, len(raw) - size + 1)))
    return start, min(len(raw), start + size)


def _flip_bits(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(raw)
    count = int(rng.integers(1, 9)) if out else 0
    for i in rng.integers(0, max(len(out), 1), count).tolist():
        out[i] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _overwrite_block(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    fill = rng.bytes(b - a) if rng.random() < 0.5 else bytes([int(rng.integers(256))]) * (b - a)
    return raw[:a] + fill + raw[b:]


def _cut_end(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw) + 1))]


def _extend_end(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw + (raw[a:b] if rng.random() < 0.5 else rng.bytes(b - a))


def _swap_blocks(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    (a, b), (c, d) = sorted((_span(raw, rng), _span(raw, rng)))
    c, d = max(b, c), max(b, d)
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def _repeat_block(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw[:b] + raw[a:b] + raw[b:]


def _remove_block(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    return raw[:a] + raw[b:]


def _copy_block(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(raw, rng)
    to = int(rng.integers(0, len(raw) - (b - a) + 1)) if raw else 0
    return raw[:to] + raw[a:b] + raw[to + b - a :]


def _swap_lines(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Swaps two whole lines, as an editor would."""
    lines = raw.splitlines(keepends=True)
    if len(lines) > 1:
        a, b = rng.integers(0, len(lines), 2).tolist()
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _change_character(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Replaces a digit by a digit or a letter by a letter."""
    positions = [i for i, c in enumerate(raw[:100_000]) if chr(c).isalnum() and c < 128]
    if not positions:
        return raw
    i = positions[int(rng.integers(len(positions)))]
    pool = b"0123456789" if raw[i : i + 1].isdigit() else b"abcdefghijklmnopqrstuvwxyz"
    return raw[:i] + bytes([pool[int(rng.integers(len(pool)))]]) + raw[i + 1 :]


def _insert_mark(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Inserts one of `MARKS`."""
    i = int(rng.integers(0, len(raw) + 1))
    return raw[:i] + MARKS[int(rng.integers(len(MARKS)))] + raw[i:]


def _insert_foreign(raw: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Replaces the file, or a block of it, by that of another dataset."""
    if rng.random() < 0.3:
        return other
    a, b = _span(other, rng)
    return raw[:a] + other[a:b] + raw[b:]


MUTATIONS: dict[str, Callable[[bytes, bytes, np.random.Generator], bytes]] = {
    "flip bits": _flip_bits,
    "overwrite a block": _overwrite_block,
    "cut the end": _cut_end,
    "extend the end": _extend_end,
    "swap two blocks": _swap_blocks,
    "repeat a block": _repeat_block,
    "remove a block": _remove_block,
    "copy a block over another": _copy_block,
    "swap two lines": _swap_lines,
    "change a letter or digit": _change_character,
    "insert a mark": _insert_mark,
    "a file of another dataset": _insert_foreign,
}
