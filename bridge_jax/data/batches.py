"""Batches as a pure function of (seed, step).

A batch is a row of *groups*, one a triple type, each of a fixed size: shapes are static, each
group is one dense projection, and the negatives are of the right type. Only int32 ids travel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError

_ROUNDS = 6


class Group(NamedTuple):
    """Columns `start : start + size` of every shard of a batch are pairs of one triple type."""

    triple_type: TripleType
    start: int
    size: int

    @property
    def columns(self) -> slice:
        """The group's columns within a shard."""
        return slice(self.start, self.start + self.size)


class Batch(NamedTuple):
    """Pairs of ids; the column says of what triple type.

    Attributes:
      heads: local ids, int32 `[shards, columns]`.
      tails: the same of the tails.
      head_vectors: of each group `[shards, size, dim]`, when the tables stay on the host.
      tail_vectors: the same of the tails.
    """

    heads: Int32[Any, "shards columns"]
    tails: Int32[Any, "shards columns"]
    head_vectors: tuple[Any, ...] = ()
    tail_vectors: tuple[Any, ...] = ()


def group_sizes(
    counts: Int[np.ndarray, "kinds"], batch: int, sampling_alpha: float, shards: int = 1
) -> Int[np.ndarray, "kinds"]:
    """Share a batch among triple types in proportion to `count ** sampling_alpha`.

    Args:
      counts: training pairs of each triple type.
      batch: rows a batch.
      sampling_alpha: 1 for proportional, 0 for equal shares.
      shards: every size is a multiple of this.

    Returns:
      `[kinds]` sizes that sum to `batch`; at least `shards` rows for each type that has pairs.

    Raises:
      InputError: too few rows for the triple types, or not a multiple of `shards`.
    """
    used = counts > 0
    units = batch // shards
    if batch % shards or units < used.sum():
        raise InputError(
            f"batch.size {batch} must be a multiple of batch.shards {shards}, and at least "
            f"{shards * int(used.sum())}: a row a shard for each of {int(used.sum())} triple types"
        )
    weight = np.where(used, np.maximum(counts, 1.0) ** sampling_alpha, 0.0)
    ideal = weight / weight.sum() * (units - used.sum())
    sizes = np.floor(ideal).astype(np.int64) + used
    sizes[np.argsort(-(ideal % 1), kind="stable")[: units - int(sizes.sum())]] += 1
    return sizes * shards


def permute(index: Int[np.ndarray, "n"], size: int, key: tuple[int, ...]) -> Int[np.ndarray, "n"]:
    """A keyed permutation of `range(size)`, at any positions, without a table.

    A Feistel network over the next even number of bits, walked until it falls inside the range
    (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
      index: positions in `[0, size)`.
      size: the domain.
      key: non-negative integers that choose the permutation.

    Returns:
      `[n]` int64; distinct for distinct positions.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = index.astype(np.uint64)
    outside = np.ones(len(out), bool)
    while outside.any():
        left, right = out[outside] >> np.uint64(half), out[outside] & mask
        for k in keys:
            mixed = (right + k) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ (mixed >> np.uint64(32)) & mask
        out[outside] = left << np.uint64(half) | right
        outside = out >= size
    return out.astype(np.int64)


@dataclass(frozen=True)
class Batches:
    """The training pairs, cut into batches of `[shards, columns]`.

    A batch is the same on any number of devices that divides `shards`: a device holds some of its
    shards.

    Attributes:
      pairs: training pairs by triple type.
      size: rows a batch.
      sampling_alpha: see `group_sizes`.
      seed: of the order.
      shards: into how many equal parts a batch can be cut.
    """

    pairs: Mapping[TripleType, Pairs]
    size: int
    sampling_alpha: float
    seed: int
    shards: int = 1

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of every shard, those of one tail type adjacent."""
        triple_types = sorted(self.pairs, key=lambda k: (k.tail, k.head, k.relation))
        counts = np.array([len(self.pairs[k].heads) for k in triple_types], np.int64)
        sizes = group_sizes(counts, self.size, self.sampling_alpha, self.shards) // self.shards
        starts = np.cumsum(sizes) - sizes
        found = zip(triple_types, starts.tolist(), sizes.tolist(), strict=True)
        return tuple(Group(k, start, size) for k, start, size in found if size)

    @property
    def per_epoch(self) -> int:
        """Steps that show as many pairs as there are."""
        return max(1, sum(len(p.heads) for p in self.pairs.values()) // self.size)

    def __call__(self, step: int, part: slice = slice(None)) -> Batch:
        """The batch of a step: each triple type walks through its own shuffled epochs.

        Args:
          step: from 0.
          part: the shards to compute; a process of several asks for its own.
        """
        shards = np.arange(self.shards, dtype=np.int64)[part]
        heads = np.empty((len(shards), self.size // self.shards), np.int32)
        tails = np.empty_like(heads)
        for number, group in enumerate(self.groups):
            pairs = self.pairs[group.triple_type]
            count = len(pairs.heads)
            first = (step * self.shards + shards[:, None]) * group.size
            place = first + np.arange(group.size)
            rows = np.empty_like(place)
            for epoch in np.unique(place // count).tolist():
                now = place // count == epoch
                rows[now] = permute(place[now] % count, count, (self.seed, number, epoch))
            heads[:, group.columns], tails[:, group.columns] = pairs.heads[rows], pairs.tails[rows]
        return Batch(heads, tails)
