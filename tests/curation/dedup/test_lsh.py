from collections.abc import Callable

import numpy as np
import pytest

from curation.decisions import DuplicateMatches
from curation.dedup.lsh import (
    LshBuckets,
    SearchScope,
    find_lsh_buckets,
    pack_pairs,
    select_representatives,
    unpack_pairs,
)


def _pairs(codes: np.ndarray) -> list[tuple[int, int]]:
    left, right = unpack_pairs(codes)
    return list(zip(left.tolist(), right.tolist(), strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_buckets_are_the_rows_with_equal_hashes(threads: int) -> None:
    rng = np.random.default_rng(5)
    hashes = rng.integers(1, 2**64, 12, dtype=np.uint64)[rng.integers(0, 12, (40, 3))]
    found = find_lsh_buckets(hashes, threads)
    buckets = {tuple(found.row[found.bucket == bucket].tolist()) for bucket in np.unique(found.bucket)}
    expected = {
        tuple(np.flatnonzero(hashes[:, band] == value).tolist())
        for band in range(3)
        for value in hashes[:, band]
        if (hashes[:, band] == value).sum() > 1
    }
    assert buckets == expected
    assert len(np.unique(found.bucket)) >= len(expected)


def test_rows_without_shingles_are_in_no_bucket() -> None:
    hashes = np.zeros((5, 2), np.uint64)
    hashes[[1, 3]] = np.uint64(1 << 63)
    assert set(find_lsh_buckets(hashes, 1).row.tolist()) == {1, 3}
    assert not len(find_lsh_buckets(np.zeros((5, 2), np.uint64), 1).row)
    assert not len(find_lsh_buckets(np.zeros((0, 2), np.uint64), 1).row)
    assert not len(find_lsh_buckets(np.full((1, 2), 9, np.uint64), 1).row)


def test_a_star_pairs_each_member_with_the_first() -> None:
    buckets = LshBuckets(np.array([0, 0, 0, 4, 4]), np.array([2, 5, 9, 1, 2]))
    assert sorted(_pairs(buckets.star_pairs())) == [(1, 2), (2, 5), (2, 9)]
    assert sorted(_pairs(buckets.restrict(np.arange(10) != 2).star_pairs())) == [(5, 9)]


def test_all_pairs_of_a_small_bucket_are_made() -> None:
    buckets = LshBuckets(np.array([0, 0, 0, 7, 7]), np.array([2, 5, 9, 2, 5]))
    assert _pairs(buckets.all_pairs()) == [(2, 5), (2, 9), (5, 9)]


def test_pairs_of_a_large_bucket_grow_linearly() -> None:
    large = LshBuckets(np.zeros(10_000, np.int64), np.arange(10_000))
    assert len(large.star_pairs()) == 9_999
    assert len(large.all_pairs()) == 9_999 + 9_998


def test_packed_pairs_can_be_unpacked() -> None:
    left, right = np.array([0, 3, 2**31 - 2]), np.array([1, 2**31 - 1, 2**31 - 1])
    assert _pairs(pack_pairs(left, right)) == list(zip(left.tolist(), right.tolist(), strict=True))


_ONE_BUCKET = 7


def _scope(num_reference: int, *, among_texts: bool = True) -> SearchScope:
    return SearchScope(num_reference=num_reference, among_texts=among_texts, threshold=0.7)


def _search(
    similar: dict[tuple[int, int], float], rows: int, reference: int = 0, among_texts: bool = True
) -> DuplicateMatches:
    hashes = np.full((rows, 1), _ONE_BUCKET << 32, np.uint64)
    return select_representatives(
        hashes, _record_comparisons(similar, []), _scope(reference, among_texts=among_texts), 1
    )


def _record_comparisons(
    similar: dict[tuple[int, int], float], compared: list[tuple[int, int]]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def compare(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [(int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in pairs]
        compared.extend(rows)
        return np.array([similar.get(pair, 0.1) for pair in rows]), np.full(len(rows), 0.5)

    return compare


def test_a_member_whose_first_row_was_dropped_is_compared_with_the_kept_rows() -> None:
    # 1 is a duplicate of 0; 2 and 3 are similar to 1 and to each other, not to 0.
    found = _search({(0, 1): 0.9, (1, 2): 0.9, (1, 3): 0.8, (2, 3): 0.75}, 4)
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]
    assert found.similarity[3] == 0.75


def test_the_first_row_of_a_bucket_may_be_dropped_because_of_another_bucket() -> None:
    # Rows 1, 2, 3 share a band; 1 shares another with 0 and is dropped. Then 2 and 3 must be compared.
    hashes = np.array([[1, 5], [2, 5], [2, 6], [2, 8]], np.uint64) << np.uint64(32)
    similar = {(0, 1): 0.8, (1, 2): 0.9, (1, 3): 0.9, (2, 3): 0.9}
    found = select_representatives(hashes, _record_comparisons(similar, []), _scope(0, among_texts=True), 1)
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]


def test_the_reference_is_never_compared_with_itself_nor_dropped() -> None:
    compared: list[tuple[int, int]] = []
    hashes = np.full((5, 1), _ONE_BUCKET << 32, np.uint64)
    select_representatives(hashes, _record_comparisons({}, compared), _scope(3, among_texts=True), 1)
    assert sorted(compared) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    compared.clear()
    select_representatives(hashes, _record_comparisons({}, compared), _scope(3, among_texts=False), 1)
    assert sorted(compared) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_duplicate_names_the_most_similar_kept_row_and_the_earliest_of_equals() -> None:
    found = _search({(0, 2): 0.7, (1, 2): 0.7, (0, 3): 0.2, (1, 3): 0.9}, 4, reference=2)
    assert found.duplicate_of.tolist() == [0, 1]
    assert found.similarity.tolist() == [0.7, 0.9]


def test_a_pair_is_compared_once() -> None:
    compared: list[tuple[int, int]] = []
    rng = np.random.default_rng(6)
    hashes = rng.integers(1, 6, (40, 4)).astype(np.uint64) << np.uint64(40)
    select_representatives(hashes, _record_comparisons({(7, 9): 0.9}, compared), _scope(5, among_texts=True), 2)
    assert len(compared) == len(set(compared)) > 100
    assert all(left < right and right >= 5 for left, right in compared)


def test_a_large_bucket_of_dissimilar_rows_costs_a_few_comparisons_per_row() -> None:
    compared: list[tuple[int, int]] = []
    hashes = np.full((5000, 1), _ONE_BUCKET << 32, np.uint64)
    found = select_representatives(hashes, _record_comparisons({}, compared), _scope(0, among_texts=True), 1)
    assert found.kept.all()
    assert len(compared) < 3 * 5000
