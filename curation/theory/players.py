"""Who generates in the game of replay: players that answer from what was observed and what they said themselves.

Racca, Valko, Sanyal 2026, arXiv:2603.11784: Algorithm 1 (burn-in) and Algorithm 2 (witness protection), and the players that do without.
"""

from collections.abc import Callable, Sequence

import numpy as np

from curation.theory.languages import Integers, Language, Marks, first_integers, first_new

Player = Callable[[Sequence[int], Sequence[int]], int]
"""What is said in a round, from all that was observed up to it and all that the player said before."""


def uniform(languages: Sequence[Language]) -> Player:
    """Says the first new number that all languages share which hold what was observed; trusts every number."""

    def answer(observed: Sequence[int], said: Sequence[int]) -> int:  # noqa: ARG001  (players are asked alike)
        numbers = first_integers(8 * len(observed) + 64)
        holding = [one.holds(numbers) for one in languages if one.holds(np.array(observed)).all()]
        fresh = ~np.isin(numbers, observed)
        shared = numbers[np.logical_and.reduce(holding) & fresh] if holding else numbers[:0]
        if len(shared):
            return int(shared[0])
        # Nothing is sure: a player without burn-in guesses the first language that may be it.
        guess = next((one for one in languages if one.holds(np.array(observed)).all()), languages[0])
        return first_new(guess, observed)

    return answer


def burn_in(player: Player, distinct: int) -> Player:
    """Algorithm 1: repeats the first number, which is genuine, until so many distinct ones were observed."""

    def answer(observed: Sequence[int], said: Sequence[int]) -> int:
        return observed[0] if len(set(observed)) < distinct else player(observed, said)

    return answer


def in_the_limit(languages: Sequence[Language], *, sure: bool, protect: bool) -> Player:
    """Algorithm 2, and what is left of it without its two cautions.

    Args:
        languages: the class, in the order in which it is tried: one more a round.
        sure: only numbers count as evidence that the player had not said itself when they came.
        protect: never say the witness that tells two languages apart, so that its arrival is evidence.
    """

    def answer(observed: Sequence[int], said: Sequence[int]) -> int:
        evidence = [x for place, x in enumerate(observed) if not sure or x not in set(said[:place])]
        active = [one for one in languages[: len(observed)] if one.holds(np.array(evidence)).all()]
        count = len(observed)
        while active:
            numbers = first_integers(count)
            own = np.isin(numbers, said)
            rows = np.array([one.holds(numbers) for one in active]) & ~(own & sure)
            free = rows[_largest_critical(rows)] & ~own & ~np.isin(numbers, evidence)
            if protect:
                free &= ~_witnesses(rows)
            if free.any():
                return int(numbers[free.argmax()])
            count *= 2
        return observed[0]

    return answer


def witness_protection(languages: Sequence[Language]) -> Player:
    """Algorithm 2: speaks any countable class in the limit, whatever is replayed."""
    return in_the_limit(languages, sure=True, protect=True)


def witnesses(languages: Sequence[Language], observed: Sequence[int], said: Sequence[int]) -> list[int]:
    """What witness protection keeps back after this course, among the first integers; twice as many as were observed are looked at."""
    numbers: Integers = first_integers(max(16, 2 * len(observed)))
    evidence = [x for place, x in enumerate(observed) if x not in said[:place]]
    active = [one for one in languages[: len(observed)] if one.holds(np.array(evidence)).all()]
    if not active:
        return []
    rows = np.array([one.holds(numbers) for one in active]) & ~np.isin(numbers, said)
    return numbers[_witnesses(rows)].tolist()


def _largest_critical(rows: Marks) -> int:
    """The last language that lies in each earlier one, as far as the numbers reach; shape of rows (languages, numbers)."""
    critical = [not (rows[place] & ~rows[:place]).any() for place in range(len(rows))]
    return max(place for place, held in enumerate(critical) if held)


def _witnesses(rows: Marks) -> Marks:
    """Of every later and earlier language, the least number that the later alone has; shape (numbers,)."""
    found = np.zeros(rows.shape[1], bool)
    for later in range(len(rows)):
        for earlier in range(later):
            apart = rows[later] & ~rows[earlier]
            if apart.any():
                found[apart.argmax()] = True
    return found
