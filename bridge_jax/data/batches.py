"""Training batches as a pure function of (seed, step).

A batch is divided into *groups*, one for each triple type, of fixed sizes. Array shapes are
therefore static, the bridge projects each group as one dense array, and in-batch negatives have the
right node type. A batch holds int32 node ids only; embeddings are looked up on the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError

_FEISTEL_ROUNDS = 6


class Group(NamedTuple):
    """Columns of a batch that hold pairs of one triple type; the same columns in every shard.

    Attributes:
      triple_type: Triple type of the pairs.
      start: First column.
      size: Number of columns.
    """

    triple_type: TripleType
    start: int
    size: int

    @property
    def columns(self) -> slice:
        """Slice of the group's columns, `start` to `start + size`."""
        return slice(self.start, self.start + self.size)


class Batch(NamedTuple):
    """Head and tail ids of one training batch; `Batches.groups` gives the type of each column.

    Attributes:
      heads: Local ids of the head nodes, int32 `[shards, columns]`.
      tails: Local ids of the tail nodes, int32 `[shards, columns]`.
      head_vectors: Embeddings of the heads, one array `[shards, size, dim]` for each group; empty
        unless the embedding tables stay on the host.
      tail_vectors: Embeddings of the tails, likewise.
    """

    heads: Int32[Any, "shards columns"]
    tails: Int32[Any, "shards columns"]
    head_vectors: tuple[Any, ...] = ()
    tail_vectors: tuple[Any, ...] = ()


def group_sizes(
    counts: Int[np.ndarray, "types"], batch_size: int, sampling_alpha: float, shards: int = 1
) -> Int[np.ndarray, "types"]:
    """Divides a batch among triple types in proportion to `count ** sampling_alpha`.

    Args:
      counts: Number of training pairs of each triple type.
      batch_size: Number of pairs in a batch.
      sampling_alpha: Exponent: 1 samples in proportion to the counts, 0 uniformly over types.
      shards: Number of equal parts of a batch, default 1; every size is a multiple of it.

    Returns:
      Sizes `[types]` that sum to `batch_size`; at least `shards` for each type that has pairs.

    Raises:
      InputError: `batch_size` is not a multiple of `shards` or is too small for the triple types.
    """
    used = counts > 0
    units = batch_size // shards
    if batch_size % shards or units < used.sum():
        raise InputError(
            f"batch.size {batch_size} must be a multiple of batch.shards {shards}, and at least "
            f"{shards * int(used.sum())}: one row per shard for each of {int(used.sum())} triple "
            "types"
        )
    weight = np.where(used, np.maximum(counts, 1.0) ** sampling_alpha, 0.0)
    ideal = weight / weight.sum() * (units - used.sum())
    sizes = np.floor(ideal).astype(np.int64) + used
    sizes[np.argsort(-(ideal % 1), kind="stable")[: units - int(sizes.sum())]] += 1
    return sizes * shards


def permute(index: Int[np.ndarray, "n"], size: int, key: tuple[int, ...]) -> Int[np.ndarray, "n"]:
    """Evaluates a keyed pseudorandom permutation of `range(size)` at some positions.

    Uses a Feistel network over the next even number of bits and repeats it until the value falls
    inside the range (cycle walking). Unlike `numpy.random.permutation` it needs no array of length
    `size`.

    Args:
      index: Positions in `[0, size)`.
      size: Length of the range.
      key: Non-negative integers that select the permutation.

    Returns:
      Values in `[0, size)`, int64 `[n]`; distinct for distinct positions.

    References:
      Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    round_keys = np.random.SeedSequence(key).generate_state(_FEISTEL_ROUNDS, np.uint64)
    out = index.astype(np.uint64)
    outside = np.ones(len(out), bool)
    while outside.any():
        left, right = out[outside] >> np.uint64(half), out[outside] & mask
        for round_key in round_keys:
            mixed = (right + round_key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ (mixed >> np.uint64(32)) & mask
        out[outside] = left << np.uint64(half) | right
        outside = out >= size
    return out.astype(np.int64)


@dataclass(frozen=True)
class Batches:
    """Callable from a step to its batch of training pairs.

    A batch is divided into `shards` equal parts, and each device takes some of them. The batches
    are therefore the same for every number of devices that divides `shards`.

    Attributes:
      pairs: Training pairs by triple type.
      size: Number of pairs in a batch.
      sampling_alpha: Exponent of the sampling over triple types; see `group_sizes`.
      seed: Seed of the shuffling.
      shards: Number of equal parts of a batch, default 1.

    Example:
      >>> batches = Batches(graph.pairs(["train"]), size=4096, sampling_alpha=0.5, seed=0)
      >>> batch = batches(0)
    """

    pairs: Mapping[TripleType, Pairs]
    size: int
    sampling_alpha: float
    seed: int
    shards: int = 1

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups of a batch in the order of their columns, sorted by tail type."""
        triple_types = sorted(self.pairs, key=lambda t: (t.tail, t.head, t.relation))
        counts = np.array([len(self.pairs[t].heads) for t in triple_types], np.int64)
        sizes = group_sizes(counts, self.size, self.sampling_alpha, self.shards) // self.shards
        starts = np.cumsum(sizes) - sizes
        columns = zip(triple_types, starts.tolist(), sizes.tolist(), strict=True)
        return tuple(Group(t, start, size) for t, start, size in columns if size)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that hold as many pairs as there are for training."""
        return max(1, sum(len(p.heads) for p in self.pairs.values()) // self.size)

    def __call__(self, step: int, shard_slice: slice = slice(None)) -> Batch:
        """Returns the batch of a step.

        Each triple type has epochs of its own: each of its pairs is drawn once, in a new order,
        before any is drawn again.

        Args:
          step: Step number, from 0.
          shard_slice: Shards to compute, default all; one of several processes passes its own.

        Returns:
          Batch whose arrays have as many rows as `shard_slice` selects shards.
        """
        shards = np.arange(self.shards, dtype=np.int64)[shard_slice]
        heads = np.empty((len(shards), self.size // self.shards), np.int32)
        tails = np.empty_like(heads)
        for number, group in enumerate(self.groups):
            pairs = self.pairs[group.triple_type]
            count = len(pairs.heads)
            first = (step * self.shards + shards[:, None]) * group.size
            positions = first + np.arange(group.size)  # since step 0, counted through all epochs
            rows = np.empty_like(positions)
            epochs = positions // count
            for epoch in np.unique(epochs).tolist():
                drawn = epochs == epoch
                rows[drawn] = permute(positions[drawn] % count, count, (self.seed, number, epoch))
            heads[:, group.columns], tails[:, group.columns] = pairs.heads[rows], pairs.tails[rows]
        return Batch(heads, tails)
