"""Play the game of language generation with replay: the adversary may show the player's own past answers again.

In round t the adversary shows x_t, which is in the target or an earlier answer; the player answers o_t. The answer is
correct if o_t is in the target and was not observed. Racca, Valko, Sanyal 2026, "Language Generation with Replay",
arXiv:2603.11784.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.theory.languages import Language, first_new
from curation.theory.players import Player
from heirloom.errors import HeirloomError

Adversary = Callable[[Sequence[int], Sequence[int]], int]
"""(shown numbers, answers of the player) -> number to show next."""


@dataclass(frozen=True)
class Round:
    """One round: the shown number, the round in which the player had answered it (0: never), and the answer."""

    number: int
    shown: int
    genuine: bool
    first_answered_in: int
    answer: int
    error: str
    """Empty for a correct answer, else `outside` (of the target) or `observed` (before)."""


def play(player: Player, adversary: Adversary, target: Language, rounds: int) -> list[Round]:
    """Play a number of rounds.

    Raises:
        HeirloomError: the adversary showed a number that is neither in the target nor an earlier answer.
    """
    shown: list[int] = []
    answered: list[int] = []
    played = []
    for number in range(1, rounds + 1):
        current = adversary(shown, answered)
        genuine = current in target
        first_answered_in = answered.index(current) + 1 if current in answered else 0
        if not genuine and not first_answered_in:
            raise HeirloomError(
                f"Round {number} shows {current}, which is neither in {target.name} nor an earlier answer of the "
                "player."
            )
        shown.append(current)
        answer = player(shown, answered)
        error = ""
        if answer not in target:
            error = "outside"
        elif answer in shown:
            error = "observed"
        answered.append(answer)
        played.append(Round(number, current, genuine, first_answered_in, answer, error))
    return played


def error_rounds(rounds: Sequence[Round]) -> list[int]:
    """Return the numbers of the rounds with a wrong answer."""
    return [played.number for played in rounds if played.error]


def enumerating(target: Language, every: int, seed: int) -> Adversary:
    """Return an adversary that shows the target in order, and replays an answer in every `every`-th round.

    It prefers answers outside of the target.
    """
    rng = np.random.default_rng(seed)

    def show(shown: Sequence[int], answered: Sequence[int]) -> int:
        foreign = [x for x in answered if x not in target]
        if answered and len(shown) % every == every - 1:
            return int(rng.choice(foreign or answered))
        return first_new(target, shown)

    return show


def starving(patience: int = 20) -> Adversary:
    """Return an adversary against `languages.residues`.

    It shows new multiples of 4, and numbers with remainder 1 only after the player has answered them, or after
    `patience` rounds.
    """

    def show(shown: Sequence[int], answered: Sequence[int]) -> int:
        round_number, known = len(shown) + 1, set(shown)
        if round_number % 2 == 0:
            echoes = sorted({x for x in answered if x >= 0 and x % 4 == 1} - known)
            overdue = [x for x in range(1, round_number - patience, 4) if x not in known]
            if echoes or overdue:
                return min([*echoes, *overdue])
        return next(x for x in range(0, 4 * round_number, 4) if x not in known)

    return show


def counting_then_echoing(count: int) -> Adversary:
    """Return the adversary of Theorem 5.1: 1 to `count`, then always the player's last answer.

    Legal for two targets.
    """

    def show(shown: Sequence[int], answered: Sequence[int]) -> int:
        return len(shown) + 1 if len(shown) < count else answered[-1]

    return show
