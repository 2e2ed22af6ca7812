"""Languages as the theory of generation has them: infinite sets of integers that are asked for membership alone.

The integers are told in one order, 0, 1, -1, 2, -2, ...; "below m" means among the first m of it. Classes of languages that the
proofs of Racca, Valko and Sanyal 2026 (arXiv:2603.11784) use are given here by name; their order is that in which a player tries them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Language:
    """One infinite set of integers: its name, how a person would write it down, and who is in it."""

    name: str
    written: str
    holds: Callable[[Integers], Marks]

    def __contains__(self, number: int) -> bool:
        return bool(self.holds(np.array([number]))[0])


@lru_cache(maxsize=64)
def first_integers(count: int) -> Integers:
    """The first of all integers in their order, shape (count,)."""
    places = np.arange(count)
    return np.where(places % 2 == 1, (places + 1) // 2, -(places // 2))


def first_new(language: Language, known: Sequence[int]) -> int:
    """The first member, in the order of the integers, that is not known yet."""
    count = 2 * len(known) + 16
    while True:
        numbers = first_integers(count)
        found = numbers[language.holds(numbers) & ~np.isin(numbers, np.array(known, np.int64))]
        if len(found):
            return int(found[0])
        count *= 2


def overlapping() -> list[Language]:
    """Three languages of which two share 1, 2, 3, 4 alone: five distinct numbers tell enough to speak, four do not."""
    return [
        Language("even", "1, 3 and the positive even numbers", lambda x: (x > 0) & ((x % 2 == 0) | (x <= 3))),
        Language("odd", "2, 4 and the positive odd numbers", lambda x: (x > 0) & ((x % 2 == 1) | (x <= 4))),
        Language("threes", "the positive multiples of 3", lambda x: (x > 0) & (x % 3 == 0)),
    ]


def positive() -> Language:
    """All positive numbers: h_inf of Theorem 5.1."""
    return Language("h_inf", "1, 2, 3, ...", lambda x: x > 0)


def negative_and_first(count: int) -> Language:
    """1 to `count`, and everything negative: h_d of Theorem 5.1."""
    return Language(f"h_{count}", f"1 to {count}, and -1, -2, ...", lambda x: (x < 0) | ((x > 0) & (x <= count)))


def residues() -> list[Language]:
    """Three languages on the naturals by remainder of 4: the third is the target for which unprotected players never settle."""

    def kind(name: str, *left: int) -> Language:
        told = " or ".join(map(str, left))
        return Language(
            name, f"naturals that leave {told} when divided by 4", lambda x: (x >= 0) & np.isin(x % 4, left)
        )

    return [kind("h1", 0, 1, 2), kind("h2", 0, 3), kind("h3", 0, 1)]


def four() -> list[Language]:
    """The class of Theorem 7.3: proper generation with replay fails for it. What is beyond 2 on either side is all alike."""
    return [
        Language("h1-", "0, -1, -2, ... and 1", lambda x: (x <= 0) | (x == 1)),
        Language("h2-", "0, -1, -2, ... and 2", lambda x: (x <= 0) | (x == 2)),
        Language("h1+", "0, 1, 2, ... and -1", lambda x: (x >= 0) | (x == -1)),
        Language("h2+", "0, 1, 2, ... and -2", lambda x: (x >= 0) | (x == -2)),
    ]
