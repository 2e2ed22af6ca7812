"""Which of two answers a model should prefer: what people marked, or the best of k against the worst."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.chat import ANSWERS, REJECTED, Turn, render, responses
from curation.metrics.lexical_diversity import lexical_diversity
from curation.selection.best_of import lengths

Merit = Literal["likelihood", "length", "lexical_diversity"]


class Pair(NamedTuple):
    """Rows of the better and of the worse answer, and how far apart they are."""

    chosen: int
    rejected: int
    margin: float


def marked_pair(turns: Sequence[Turn]) -> tuple[str, str, str] | None:
    """Prompt, preferred and rejected answer of a conversation that ends in both; None for any other."""
    if [turn["role"] for turn in turns[-2:]] != [ANSWERS, REJECTED] or len(turns) < 3:
        return None
    prompt, chosen = responses(turns[:-1])[-1]
    return prompt, chosen, render(turns[-1:]).partition("\n")[2]


def merits(by: Merit, texts: Sequence[str], nats_per_token: Sequence[float]) -> NDArray[np.float64]:
    """What each answer is judged by, shape (answers,): more is better. `nats_per_token` is its negative log-likelihood."""
    if by == "likelihood":
        return -np.array(nats_per_token, np.float64)
    return lengths(texts) if by == "length" else lexical_diversity(texts)


def best_against_worst(
    prompts: Sequence[str], texts: Sequence[str], kept: Sequence[bool], merit: NDArray[np.float64]
) -> list[Pair]:
    """One pair a prompt that has several answers: the best that was kept, and the worst of all that says something else.

    Of equals the first; a prompt whose best is no better than its worst has no pair, and a merit of NaN takes no part.
    """
    answers: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        if not np.isnan(merit[row]):
            answers[prompt].append(row)
    found = []
    for rows in answers.values():
        good = [row for row in rows if kept[row]]
        if not good:
            continue
        best = max(good, key=lambda row: merit[row])
        worst = min((row for row in rows if texts[row] != texts[best]), key=lambda row: merit[row], default=best)
        if merit[best] > merit[worst]:
            found.append(Pair(best, worst, float(merit[best] - merit[worst])))
    return found
