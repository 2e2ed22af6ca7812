"""Languages are what they are called, and the order of the integers is one."""

import numpy as np

from curation.theory.languages import (
    first_integers,
    first_new,
    four,
    negative_and_first,
    overlapping,
    positive,
    residues,
)


def test_integers_come_in_one_order_and_each_once() -> None:
    assert first_integers(7).tolist() == [0, 1, -1, 2, -2, 3, -3]
    assert sorted(first_integers(2001)) == list(range(-1000, 1001))


def test_the_first_new_member_is_found_however_far_it_is() -> None:
    assert first_new(positive(), []) == 1
    assert first_new(positive(), list(range(1, 400))) == 400
    assert first_new(negative_and_first(2), [1, 2]) == -1


def test_the_four_languages_are_those_of_the_theorem() -> None:
    numbers = np.arange(-5, 6)
    found = {one.name: set(numbers[one.holds(numbers)].tolist()) for one in four()}
    assert found["h1-"] == {-5, -4, -3, -2, -1, 0, 1}
    assert found["h2-"] == {-5, -4, -3, -2, -1, 0, 2}
    assert found["h1+"] == {-1, 0, 1, 2, 3, 4, 5}
    assert found["h2+"] == {-2, 0, 1, 2, 3, 4, 5}


def test_two_of_the_overlapping_languages_share_four_numbers_alone() -> None:
    even, odd, _ = overlapping()
    numbers = np.arange(-200, 201)
    assert numbers[even.holds(numbers) & odd.holds(numbers)].tolist() == [1, 2, 3, 4]


def test_residues_are_naturals() -> None:
    assert [[x in one for x in (-4, 0, 1, 2, 3)] for one in residues()] == [
        [False, True, True, True, False],
        [False, True, False, False, True],
        [False, True, True, False, False],
    ]
