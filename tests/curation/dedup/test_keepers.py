from collections.abc import Callable

import numpy as np

from curation.decisions import DuplicateMatches
from curation.dedup.lsh import select_representatives

_ONE_BUCKET = 7


def _found(
    similar: dict[tuple[int, int], float], rows: int, reference: int = 0, among_texts: bool = True
) -> DuplicateMatches:
    hashes = np.full((rows, 1), _ONE_BUCKET << 32, np.uint64)
    return select_representatives(hashes, reference, _comparing(similar, []), 0.7, 1, among_texts=among_texts)


def _comparing(
    similar: dict[tuple[int, int], float], asked: list[tuple[int, int]]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def compare(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [(int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in pairs]
        asked.extend(found)
        return np.array([similar.get(pair, 0.1) for pair in found]), np.full(len(found), 0.5)

    return compare


def test_a_member_whose_first_went_is_compared_with_those_who_stay() -> None:
    # 1 goes because of 0; 2 and 3 are like 1 and like each other, not like 0.
    found = _found({(0, 1): 0.9, (1, 2): 0.9, (1, 3): 0.8, (2, 3): 0.75}, 4)
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]
    assert found.similarity[3] == 0.75


def test_the_first_of_a_bucket_may_go_because_of_another_bucket() -> None:
    # Rows 1, 2, 3 share a band; 1 shares another with 0, and goes. 2 and 3 must meet then.
    hashes = np.array([[1, 5], [2, 5], [2, 6], [2, 8]], np.uint64) << np.uint64(32)
    similar = {(0, 1): 0.8, (1, 2): 0.9, (1, 3): 0.9, (2, 3): 0.9}
    found = select_representatives(hashes, 0, _comparing(similar, []), 0.7, 1, among_texts=True)
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]


def test_the_reference_is_never_compared_with_itself_nor_dropped() -> None:
    asked: list[tuple[int, int]] = []
    hashes = np.full((5, 1), _ONE_BUCKET << 32, np.uint64)
    select_representatives(hashes, 3, _comparing({}, asked), 0.7, 1, among_texts=True)
    assert sorted(asked) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    asked.clear()
    select_representatives(hashes, 3, _comparing({}, asked), 0.7, 1, among_texts=False)
    assert sorted(asked) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)]


def test_the_nearest_that_stays_is_named_and_the_earliest_of_equals() -> None:
    found = _found({(0, 2): 0.7, (1, 2): 0.7, (0, 3): 0.2, (1, 3): 0.9}, 4, reference=2)
    assert found.duplicate_of.tolist() == [0, 1]
    assert found.similarity.tolist() == [0.7, 0.9]


def test_a_pair_is_compared_once() -> None:
    asked: list[tuple[int, int]] = []
    dice = np.random.default_rng(6)
    hashes = dice.integers(1, 6, (40, 4)).astype(np.uint64) << np.uint64(40)
    select_representatives(hashes, 5, _comparing({(7, 9): 0.9}, asked), 0.7, 2, among_texts=True)
    assert len(asked) == len(set(asked)) > 100
    assert all(left < right and right >= 5 for left, right in asked)


def test_a_bucket_of_many_that_differ_costs_a_few_comparisons_each() -> None:
    asked: list[tuple[int, int]] = []
    hashes = np.full((5000, 1), _ONE_BUCKET << 32, np.uint64)
    found = select_representatives(hashes, 0, _comparing({}, asked), 0.7, 1, among_texts=True)
    assert found.kept.all()
    assert len(asked) < 3 * 5000
