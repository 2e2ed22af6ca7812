"""Proper generation with replay: the player names a language of the class, and one stream can be true for two targets.

Theorem 7.3 of Racca, Valko, Sanyal 2026 (arXiv:2603.11784), checked by going through all cases, and the pattern of its proof as a test
for any finite class. Sets are compared on a window of integers; that is exact for languages that are regular beyond it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.theory.languages import Language


@dataclass(frozen=True)
class Trap:
    """Whatever is named first, a stream that is true for two targets, and no language that would be right for both."""

    named: Language
    targets: tuple[Language, Language]
    stream: tuple[int, ...]
    """Begins: what both hold, what only one of them holds and the named one replays, then the rest in order."""


def traps(languages: Sequence[Language], window: int = 300) -> list[Trap]:
    """A trap for every language that may be named first; empty where one of them has none.

    A class is beyond proper generation if some first number x is in two targets, their difference lies in the named language, and
    no member lies in what both hold. Sufficient for failure, with replay; derived from the proof of Theorem 7.3.
    """
    numbers = np.arange(-window, window + 1)
    rows = {one.name: one.holds(numbers) for one in languages}
    for place in np.argsort(np.abs(numbers), kind="stable"):
        holding = [one for one in languages if rows[one.name][place]]
        found = []
        for named in languages:
            trap = next(
                (
                    Trap(named, (first, second), _stream(numbers, rows[first.name], rows[second.name], place))
                    for spot, first in enumerate(holding)
                    for second in holding[spot + 1 :]
                    if not ((rows[first.name] ^ rows[second.name]) & ~rows[named.name]).any()
                    and not any(not (row & ~(rows[first.name] & rows[second.name])).any() for row in rows.values())
                ),
                None,
            )
            found += [trap] if trap else []
        if len(found) == len(languages):
            return found
    return []


def legal(stream: Sequence[int], target: Language, named: Language | None) -> bool:
    """Whether a stream is an enumeration of this target, where everything of the language named first may be replayed.

    The first number came before any answer, and must be genuine; without a named language there is no replay. Also every number of the
    target within the stream's reach must come.
    """
    if stream[0] not in target:
        return False
    reach = max(abs(x) for x in stream)
    complete = all(x in stream for x in range(-reach, reach + 1) if x in target)
    return complete and all(x in target or (named is not None and x in named) for x in stream[1:])


def right_for_both(languages: Sequence[Language], trap: Trap, window: int = 300) -> list[Language]:
    """The languages that a player could name for ever and be right, whichever of the two targets it is."""
    numbers = np.arange(-window, window + 1)
    both = trap.targets[0].holds(numbers) & trap.targets[1].holds(numbers)
    return [one for one in languages if not (one.holds(numbers) & ~both).any()]


def _stream(numbers: np.ndarray, first: np.ndarray, second: np.ndarray, opening: int) -> tuple[int, ...]:
    apart = numbers[first ^ second]
    rest = numbers[first & second & (np.arange(len(numbers)) != opening)]
    ordered = [*sorted(apart, key=abs), *sorted(rest, key=abs)]
    return (int(numbers[opening]), *(int(x) for x in ordered))
