import numpy as np
import pytest

from curation.dedup.lsh import LshBuckets, find_lsh_buckets, pack_pairs, unpack_pairs


def _pairs(codes: np.ndarray) -> list[tuple[int, int]]:
    left, right = unpack_pairs(codes)
    return list(zip(left.tolist(), right.tolist(), strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_buckets_are_the_rows_with_equal_hashes(threads: int) -> None:
    dice = np.random.default_rng(5)
    hashes = dice.integers(1, 2**64, 12, dtype=np.uint64)[dice.integers(0, 12, (40, 3))]
    found = find_lsh_buckets(hashes, threads)
    told = {tuple(found.row[found.bucket == bucket].tolist()) for bucket in np.unique(found.bucket)}
    expected = {
        tuple(np.flatnonzero(hashes[:, band] == value).tolist())
        for band in range(3)
        for value in hashes[:, band]
        if (hashes[:, band] == value).sum() > 1
    }
    assert told == expected
    assert len(np.unique(found.bucket)) >= len(expected)


def test_rows_without_shingles_are_in_no_bucket() -> None:
    hashes = np.zeros((5, 2), np.uint64)
    hashes[[1, 3]] = np.uint64(1 << 63)
    assert set(find_lsh_buckets(hashes, 1).row.tolist()) == {1, 3}
    assert not len(find_lsh_buckets(np.zeros((5, 2), np.uint64), 1).row)
    assert not len(find_lsh_buckets(np.zeros((0, 2), np.uint64), 1).row)
    assert not len(find_lsh_buckets(np.full((1, 2), 9, np.uint64), 1).row)


def test_a_star_joins_each_member_to_the_first() -> None:
    buckets = LshBuckets(np.array([0, 0, 0, 4, 4]), np.array([2, 5, 9, 1, 2]))
    assert sorted(_pairs(buckets.star_pairs())) == [(1, 2), (2, 5), (2, 9)]
    assert sorted(_pairs(buckets.restrict(np.arange(10) != 2).star_pairs())) == [(5, 9)]


def test_all_pairs_of_a_small_bucket_are_made() -> None:
    buckets = LshBuckets(np.array([0, 0, 0, 7, 7]), np.array([2, 5, 9, 2, 5]))
    assert _pairs(buckets.all_pairs()) == [(2, 5), (2, 9), (5, 9)]


def test_pairs_of_a_large_bucket_stay_linear() -> None:
    many = LshBuckets(np.zeros(10_000, np.int64), np.arange(10_000))
    assert len(many.star_pairs()) == 9_999
    assert len(many.all_pairs()) == 9_999 + 9_998


def test_a_pair_is_one_integer_and_back() -> None:
    left, right = np.array([0, 3, 2**31 - 2]), np.array([1, 2**31 - 1, 2**31 - 1])
    assert _pairs(pack_pairs(left, right)) == list(zip(left.tolist(), right.tolist(), strict=True))
