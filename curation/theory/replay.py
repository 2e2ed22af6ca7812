"""The game of language generation with replay: an adversary shows numbers, a player answers, and may be shown its own answers again.

Racca, Valko, Sanyal 2026, "Language Generation with Replay", arXiv:2603.11784. In round t the adversary shows x_t, which is in the
target or was said by the player before; the player says o_t. It is right if o_t is in the target and was not observed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.theory.languages import Language, first_new
from curation.theory.players import Player
from heirloom.errors import HeirloomError

Adversary = Callable[[Sequence[int], Sequence[int]], int]
"""What is shown next, from all that was shown and all that the player said."""


@dataclass(frozen=True)
class Round:
    """One round: what was shown, in which round the player had said it (0: never), what it answered, and whether it was right."""

    number: int
    shown: int
    genuine: bool
    first_answered_in: int
    answer: int
    error: str
    """Empty, `outside` of the target, or `observed` before."""


def play(player: Player, adversary: Adversary, target: Language, rounds: int) -> list[Round]:
    """The course of so many rounds.

    Raises:
        HeirloomError: the adversary showed what is neither in the target nor was said before.
    """
    shown: list[int] = []
    said: list[int] = []
    turns = []
    for number in range(1, rounds + 1):
        given = adversary(shown, said)
        genuine, before = given in target, said.index(given) + 1 if given in said else 0
        if not genuine and not before:
            raise HeirloomError(
                f"round {number} shows {given}, which is not in {target.name} and was never said: no replay"
            )
        shown.append(given)
        answer = player(shown, said)
        fault = "outside" if answer not in target else "observed" if answer in shown else ""
        said.append(answer)
        turns.append(Round(number, given, genuine, before, answer, fault))
    return turns


def error_rounds(turns: Sequence[Round]) -> list[int]:
    """The rounds in which the player was wrong."""
    return [turn.number for turn in turns if turn.error]


def enumerating(target: Language, every: int, seed: int) -> Adversary:
    """Shows the target in order, and in every so manyth round replays what the player said: from outside the target where it can."""
    rng = np.random.default_rng(seed)

    def show(shown: Sequence[int], said: Sequence[int]) -> int:
        foreign = [x for x in said if x not in target]
        if said and len(shown) % every == every - 1:
            return int(rng.choice(foreign or said))
        return first_new(target, shown)

    return show


def starving(patience: int = 20) -> Adversary:
    """Against the residues: fresh multiples of 4, and whatever leaves 1 only once the player has said it, or after long patience."""

    def show(shown: Sequence[int], said: Sequence[int]) -> int:
        round_number, known = len(shown) + 1, set(shown)
        if round_number % 2 == 0:
            spoken = sorted({x for x in said if x >= 0 and x % 4 == 1} - known)
            overdue = [x for x in range(1, round_number - patience, 4) if x not in known]
            if spoken or overdue:
                return min([*spoken, *overdue])
        return next(x for x in range(0, 4 * round_number, 4) if x not in known)

    return show


def counting_then_echoing(count: int) -> Adversary:
    """Theorem 5.1: shows 1 to `count`, then the player's last answer for ever. Legal for two targets at once."""

    def show(shown: Sequence[int], said: Sequence[int]) -> int:
        return len(shown) + 1 if len(shown) < count else said[-1]

    return show
