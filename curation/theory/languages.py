"""Languages of the theory of generation: infinite sets of integers with a membership oracle.

Integers are enumerated as 0, 1, -1, 2, -2, ...; "below m" means among the first m of them. The classes of languages are
those of the proofs of Racca, Valko and Sanyal 2026 (arXiv:2603.11784), in the order in which a player tries their
languages.
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
    """One infinite set of integers: its name, a description, and its membership function."""

    name: str
    written: str
    holds: Callable[[Integers], Marks]

    def __contains__(self, number: int) -> bool:
        return bool(self.holds(np.array([number]))[0])


@lru_cache(maxsize=64)
def first_integers(count: int) -> Integers:
    """Return the first `count` integers of the enumeration, shape (count,)."""
    places = np.arange(count)
    return np.where(places % 2 == 1, (places + 1) // 2, -(places // 2))


def first_new(language: Language, known: Sequence[int]) -> int:
    """Return the first member, in the order of the enumeration, that is not in `known`."""
    count = 2 * len(known) + 16
    while True:
        numbers = first_integers(count)
        new_members = numbers[language.holds(numbers) & ~np.isin(numbers, np.array(known, np.int64))]
        if len(new_members):
            return int(new_members[0])
        count *= 2


def overlapping() -> list[Language]:
    """Return three languages, of which two share only 1 to 4: five distinct numbers suffice, four do not."""
    return [
        Language("even", "1, 3 and the positive even numbers", lambda x: (x > 0) & ((x % 2 == 0) | (x <= 3))),
        Language("odd", "2, 4 and the positive odd numbers", lambda x: (x > 0) & ((x % 2 == 1) | (x <= 4))),
        Language("threes", "the positive multiples of 3", lambda x: (x > 0) & (x % 3 == 0)),
    ]


def positive() -> Language:
    """Return all positive numbers: h_inf of Theorem 5.1."""
    return Language("h_inf", "1, 2, 3, ...", lambda x: x > 0)


def negative_and_first(count: int) -> Language:
    """Return 1 to `count` and all negative numbers: h_d of Theorem 5.1."""
    return Language(f"h_{count}", f"1 to {count}, and -1, -2, ...", lambda x: (x < 0) | ((x > 0) & (x <= count)))


def residues() -> list[Language]:
    """Return three languages on the naturals by remainder modulo 4.

    The third is the target for which players without witness protection never stop making errors.
    """

    def kind(name: str, *left: int) -> Language:
        remainders = " or ".join(map(str, left))
        return Language(
            name, f"naturals that leave {remainders} when divided by 4", lambda x: (x >= 0) & np.isin(x % 4, left)
        )

    return [kind("h1", 0, 1, 2), kind("h2", 0, 3), kind("h3", 0, 1)]


def four() -> list[Language]:
    """Return the class of Theorem 7.3, for which proper generation with replay fails.

    Beyond 2 and -2 all members agree.
    """
    return [
        Language("h1-", "0, -1, -2, ... and 1", lambda x: (x <= 0) | (x == 1)),
        Language("h2-", "0, -1, -2, ... and 2", lambda x: (x <= 0) | (x == 2)),
        Language("h1+", "0, 1, 2, ... and -1", lambda x: (x >= 0) | (x == -1)),
        Language("h2+", "0, 1, 2, ... and -2", lambda x: (x >= 0) | (x == -2)),
    ]
