"""Proper generation with replay: the player must name a language, but one stream can be an enumeration of two targets.

Theorem 7.3 of Racca, Valko, Sanyal 2026 (arXiv:2603.11784), checked by enumeration of all cases, and its proof as a
test for any finite class. Sets are compared on a window of integers, which is exact for languages that are regular
beyond it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from curation.theory.languages import Integers, Language, Marks


@dataclass(frozen=True)
class Trap:
    """For a language named first: a stream that is legal for two targets, with no language right for both."""

    named: Language
    targets: tuple[Language, Language]
    stream: tuple[int, ...]
    """A number in both targets, those in only one (replays of the named language), then the others in both."""


def traps(languages: Sequence[Language], window: int = 300) -> list[Trap]:
    """Return a trap for every language that may be named first; empty if one of them has none.

    Proper generation fails for a class if a first number is in two targets, their symmetric difference is in the named
    language, and no member is a subset of their intersection. Sufficient with replay; derived from the proof of Theorem
    7.3.
    """
    numbers = np.arange(-window, window + 1)
    members = {language.name: language.holds(numbers) for language in languages}
    for opening in np.argsort(np.abs(numbers), kind="stable"):
        candidates = [language for language in languages if members[language.name][opening]]
        found = []
        for named in languages:
            for first, second in combinations(candidates, 2):
                if _is_trap(members, named, first, second):
                    stream = _stream(numbers, members[first.name], members[second.name], opening)
                    found.append(Trap(named, (first, second), stream))
                    break
        if len(found) == len(languages):
            return found
    return []


def _is_trap(members: Mapping[str, Marks], named: Language, first: Language, second: Language) -> bool:
    difference = members[first.name] ^ members[second.name]
    if (difference & ~members[named.name]).any():
        return False
    intersection = members[first.name] & members[second.name]
    return all((language & ~intersection).any() for language in members.values())


def legal(stream: Sequence[int], target: Language, named: Language | None) -> bool:
    """Return whether a stream enumerates this target, with replays from the language named first.

    The first number precedes any answer and must be genuine; without a named language there is no replay. Every number
    of the target up to the stream's largest absolute value must occur.
    """
    if stream[0] not in target:
        return False
    reach = max(abs(x) for x in stream)
    complete = all(x in stream for x in range(-reach, reach + 1) if x in target)
    return complete and all(x in target or (named is not None and x in named) for x in stream[1:])


def right_for_both(languages: Sequence[Language], trap: Trap, window: int = 300) -> list[Language]:
    """Return the languages that are subsets of both targets, each a correct answer for either target."""
    numbers = np.arange(-window, window + 1)
    both = trap.targets[0].holds(numbers) & trap.targets[1].holds(numbers)
    return [language for language in languages if not (language.holds(numbers) & ~both).any()]


def _stream(numbers: Integers, first: Marks, second: Marks, opening: int) -> tuple[int, ...]:
    difference = numbers[first ^ second]
    rest = numbers[first & second & (np.arange(len(numbers)) != opening)]
    ordered = [*sorted(difference, key=abs), *sorted(rest, key=abs)]
    return (int(numbers[opening]), *(int(x) for x in ordered))
