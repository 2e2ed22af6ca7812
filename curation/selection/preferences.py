"""Which of two answers a model should prefer: what people marked, or the best of k against the worst."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.chat import ASSISTANT_ROLE, REJECTED_ROLE, Message, render_chat, responses_with_context
from curation.metrics.lexical_diversity import lexical_diversity
from curation.selection.best_of import words_per_text

PreferenceScore = Literal["likelihood", "length", "lexical_diversity"]


class Pair(NamedTuple):
    """Rows of the better and of the worse answer, and how far apart they are."""

    chosen: int
    rejected: int
    margin: float


def annotated_pair(messages: Sequence[Message]) -> tuple[str, str, str] | None:
    """Prompt, preferred and rejected answer of a conversation that ends in both; None for any other."""
    if [turn["role"] for turn in messages[-2:]] != [ASSISTANT_ROLE, REJECTED_ROLE] or len(messages) < 3:
        return None
    prompt, chosen = responses_with_context(messages[:-1])[-1]
    return prompt, chosen, render_chat(messages[-1:]).partition("\n")[2]


def preference_scores(
    score: PreferenceScore, texts: Sequence[str], nll_per_token: Sequence[float]
) -> NDArray[np.float64]:
    """What each answer is judged by, shape (answers,): more is better. `nats_per_token` is its negative log-likelihood."""
    if score == "likelihood":
        return -np.array(nll_per_token, np.float64)
    return words_per_text(texts) if score == "length" else lexical_diversity(texts)


def best_vs_worst_pairs(
    prompts: Sequence[str], texts: Sequence[str], kept: Sequence[bool], scores: NDArray[np.float64]
) -> list[Pair]:
    """One pair a prompt that has several answers: the best that was kept, and the worst of all that says something else.

    Of equals the first; a prompt whose best is no better than its worst has no pair, and a merit of NaN takes no part.
    """
    answers: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        if not np.isnan(scores[row]):
            answers[prompt].append(row)
    found = []
    for rows in answers.values():
        good = [row for row in rows if kept[row]]
        if not good:
            continue
        best = max(good, key=lambda row: scores[row])
        worst = min((row for row in rows if texts[row] != texts[best]), key=lambda row: scores[row], default=best)
        if scores[best] > scores[worst]:
            found.append(Pair(best, worst, float(scores[best] - scores[worst])))
    return found
