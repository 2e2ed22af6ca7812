import numpy as np

from curation.dedup.shingle_frequency import drop_frequent, frequent_shingles, sample_rows


def _sets(*sets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one for some in sets for one in some], np.uint64), np.cumsum([0, *map(len, sets)])


def test_common_is_what_more_than_the_share_of_ten_sets_or_more_hold() -> None:
    hashes, starts = _sets(*[[1, 2, 10 + place] for place in range(12)], *[[1, 2], [1], [1]] * 4)
    assert frequent_shingles(hashes, starts, 0.5).tolist() == [1, 2]
    assert frequent_shingles(hashes, starts, 0.7).tolist() == [1]
    assert frequent_shingles(*_sets(*[[1, 2]] * 9), 0.5).tolist() == []


def test_a_hash_counts_once_a_set() -> None:
    assert frequent_shingles(*_sets(*[[7] * 20] * 3, *[[1]] * 9), 0.1).tolist() == []


def test_common_hashes_are_left_out_and_a_set_of_nothing_else_keeps_them() -> None:
    hashes, starts = _sets([1, 5, 2], [], [2, 1], [6])
    left, edges = drop_frequent(hashes, starts, np.array([1, 2], np.uint64))
    assert left.tolist() == [5, 2, 1, 6]
    assert edges.tolist() == [0, 1, 1, 3, 4]


def test_two_thousand_rows_at_most_are_asked_evenly_spread() -> None:
    assert sample_rows(0).tolist() == []
    assert sample_rows(3).tolist() == [0, 1, 2]
    rows = sample_rows(100_000)
    assert len(rows) == 2000
    assert (rows[0], rows[-1]) == (0, 99_999)
    assert np.diff(rows).max() <= 51
