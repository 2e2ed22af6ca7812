"""Players of the replay game: functions from the observed numbers and the player's own past answers to the next answer.

Racca, Valko, Sanyal 2026, arXiv:2603.11784: Algorithm 1 (burn-in), Algorithm 2 (witness protection), and players
without them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from curation.theory.languages import Integers, Language, Marks, first_integers, first_new

Player = Callable[[Sequence[int], Sequence[int]], int]
"""(observed numbers, own past answers) -> answer of this round."""


def uniform(languages: Sequence[Language]) -> Player:
    """Return a player that answers the first new number in all languages consistent with the observed numbers.

    It treats every observed number as genuine.
    """

    def answer(observed: Sequence[int], answered: Sequence[int]) -> int:  # noqa: ARG001  (signature of a player)
        numbers = first_integers(8 * len(observed) + 64)
        consistent = [language for language in languages if language.holds(np.array(observed)).all()]
        if consistent:
            in_all = np.logical_and.reduce([language.holds(numbers) for language in consistent])
            safe = numbers[in_all & ~np.isin(numbers, observed)]
            if len(safe):
                return int(safe[0])
        # No number is safe: without burn-in, guess the first consistent language.
        guess = consistent[0] if consistent else languages[0]
        return first_new(guess, observed)

    return answer


def burn_in(player: Player, distinct: int) -> Player:
    """Algorithm 1: repeat the first number, which is genuine, until `distinct` different numbers were observed."""

    def answer(observed: Sequence[int], answered: Sequence[int]) -> int:
        return observed[0] if len(set(observed)) < distinct else player(observed, answered)

    return answer


def in_the_limit(languages: Sequence[Language], *, sure: bool, protect: bool) -> Player:
    """Return the player of Algorithm 2, or a variant without one or both of its precautions.

    Args:
        languages: the class, in the order in which languages are tried, one more each round.
        sure: ignore observed numbers that the player had answered before they were observed.
        protect: never answer a witness that distinguishes two languages, so that observing it remains evidence.
    """

    def answer(observed: Sequence[int], answered: Sequence[int]) -> int:
        evidence = [number for step, number in enumerate(observed) if not sure or number not in set(answered[:step])]
        active = [language for language in languages[: len(observed)] if language.holds(np.array(evidence)).all()]
        count = len(observed)
        while active:
            numbers = first_integers(count)
            own = np.isin(numbers, answered)
            rows = np.array([language.holds(numbers) for language in active]) & ~(own & sure)
            free = rows[_largest_critical(rows)] & ~own & ~np.isin(numbers, evidence)
            if protect:
                free &= ~_witnesses(rows)
            if free.any():
                return int(numbers[free.argmax()])
            count *= 2
        return observed[0]

    return answer


def witness_protection(languages: Sequence[Language]) -> Player:
    """Algorithm 2: generates from any countable class in the limit, whatever is replayed."""
    return in_the_limit(languages, sure=True, protect=True)


def witnesses(languages: Sequence[Language], observed: Sequence[int], answered: Sequence[int]) -> list[int]:
    """Return the numbers that witness protection never answers, among the first integers, twice as many as observed."""
    numbers: Integers = first_integers(max(16, 2 * len(observed)))
    evidence = [number for step, number in enumerate(observed) if number not in answered[:step]]
    active = [language for language in languages[: len(observed)] if language.holds(np.array(evidence)).all()]
    if not active:
        return []
    rows = np.array([language.holds(numbers) for language in active]) & ~np.isin(numbers, answered)
    return numbers[_witnesses(rows)].tolist()


def _largest_critical(rows: Marks) -> int:
    """Return the last language that is a subset of each earlier one; `rows` has shape (languages, numbers)."""
    return max(row for row in range(len(rows)) if not (rows[row] & ~rows[:row]).any())


def _witnesses(rows: Marks) -> Marks:
    """Mark for every pair of languages the first number in the later but not in the earlier one, shape (numbers,)."""
    is_witness = np.zeros(rows.shape[1], bool)
    for later in range(len(rows)):
        for earlier in range(later):
            difference = rows[later] & ~rows[earlier]
            if difference.any():
                is_witness[difference.argmax()] = True
    return is_witness
