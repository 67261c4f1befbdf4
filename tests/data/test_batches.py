"""Batches: a pure function of (seed, step); each pair once per epoch; groups of fixed sizes."""

import numpy as np
import pytest

from bridge_jax.data.batches import Batches, group_sizes, permute
from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
def test_permute_is_a_permutation_that_depends_on_its_key(size):
    first, again, other = (permute(np.arange(size), size, key) for key in ((3, 1), (3, 1), (3, 2)))
    assert sorted(first.tolist()) == list(range(size))
    np.testing.assert_array_equal(first, again)
    if size > 7:
        assert (first != other).any()
        assert abs(np.corrcoef(np.arange(size), first)[0, 1]) < 0.35


def test_permute_gives_the_same_values_at_single_positions():
    values = permute(np.arange(500), 500, (9,))
    np.testing.assert_array_equal(permute(np.array([499, 17, 3]), 500, (9,)), values[[499, 17, 3]])


@pytest.mark.parametrize("sampling_alpha", [0.0, 0.5, 1.0])
def test_group_sizes_sum_to_the_batch_size_and_are_positive(sampling_alpha):
    counts = np.array([100_000, 0, 50, 3, 1])
    sizes = group_sizes(counts, 64, sampling_alpha)
    assert sizes.sum() == 64
    assert sizes[1] == 0
    assert (sizes[counts > 0] >= 1).all()
    assert (np.diff(sizes[counts > 0]) <= 0).all()
    if sampling_alpha == 0.0:
        np.testing.assert_array_equal(sizes, [16, 0, 16, 16, 16])


def test_a_batch_that_is_too_small_or_does_not_divide_is_an_input_error():
    with pytest.raises(InputError, match="at least 12: one row per shard for each of 3"):
        group_sizes(np.array([5, 5, 5]), 8, 1.0, shards=4)
    with pytest.raises(InputError, match=r"batch.size 30 must be a multiple of batch.shards 4"):
        group_sizes(np.array([5, 5, 5]), 30, 1.0, shards=4)


def test_group_sizes_are_multiples_of_the_number_of_shards():
    sizes = group_sizes(np.array([1000, 10, 1]), 64, 0.5, shards=4)
    assert sizes.sum() == 64
    assert (sizes % 4 == 0).all()
    assert (sizes >= 4).all()


def small_batches(seed: int = 0, shards: int = 1) -> Batches:
    """Returns batches of 24 pairs of three triple types; the heads of each are 0, 1, …"""
    rng = np.random.default_rng(5)
    triple_types = [TripleType("a", "r", "b"), TripleType("b", "r", "a"), TripleType("a", "s", "a")]
    pairs = {
        triple_type: Pairs(np.arange(n, dtype=np.int32), rng.integers(0, 9, n).astype(np.int32))
        for triple_type, n in zip(triple_types, (40, 40, 13), strict=True)
    }
    return Batches(pairs, 24, 1.0, seed, shards)


def test_a_batch_is_a_pure_function_of_seed_and_step():
    forward = [small_batches()(step) for step in range(6)]
    backward = {step: small_batches()(step) for step in reversed(range(6))}
    for step, batch in enumerate(forward):
        np.testing.assert_array_equal(batch.heads, backward[step].heads)
        np.testing.assert_array_equal(batch.tails, backward[step].tails)
    assert (small_batches(1)(0).heads != forward[0].heads).any()


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_every_group_has_pairs_of_its_triple_type_and_each_once_per_epoch(shards):
    batches = small_batches(shards=shards)
    for group in batches.groups:
        pairs = batches.pairs[group.triple_type]
        count = len(pairs.heads)
        steps = -(-2 * count // (shards * group.size))
        drawn = [batches(s) for s in range(steps)]
        heads = np.concatenate([b.heads[:, group.columns].ravel() for b in drawn])
        tails = np.concatenate([b.tails[:, group.columns].ravel() for b in drawn])
        np.testing.assert_array_equal(pairs.tails[heads], tails)
        for epoch in (heads[:count], heads[count : 2 * count]):
            assert sorted(epoch.tolist()) == list(range(count))
        assert (heads[:count] != heads[count : 2 * count]).any()


def test_a_shard_slice_gives_those_rows_of_the_batch():
    batches = small_batches(shards=4)
    batch, shards = batches(5), batches(5, slice(1, 3))
    np.testing.assert_array_equal(shards.heads, batch.heads[1:3])
    np.testing.assert_array_equal(shards.tails, batch.tails[1:3])


def test_groups_of_one_tail_type_are_adjacent_and_cover_the_batch():
    groups = small_batches().groups
    assert [g.triple_type.tail for g in groups] == ["a", "a", "b"]
    assert [g.start for g in groups] == np.cumsum([0, *(g.size for g in groups[:-1])]).tolist()
    assert sum(g.size for g in groups) == 24
