"""Build preference pairs: chosen and rejected responses, annotated by people or as the best against the worst of n."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.metrics.lexical_diversity import lexical_diversity
from curation.selection.best_of import words_per_text
from heirloom.chat import ASSISTANT_ROLE, REJECTED_ROLE, Message

PreferenceScore: TypeAlias = Literal["likelihood", "length", "lexical_diversity"]


@dataclass(frozen=True)
class Pair:
    """Rows of the chosen and of the rejected response, and the difference of their scores."""

    chosen: int
    rejected: int
    margin: float


def annotated_pair(messages: Sequence[Message]) -> tuple[Sequence[Message], Message, Message] | None:
    """Return the prompt, the chosen and the rejected response of a conversation that ends in both, else None."""
    if [message["role"] for message in messages[-2:]] != [ASSISTANT_ROLE, REJECTED_ROLE] or len(messages) < 3:
        return None
    rejected: Message = {**messages[-1], "role": ASSISTANT_ROLE}
    return messages[:-2], messages[-2], rejected


def preference_scores(
    score: PreferenceScore, texts: Sequence[str], nll_per_token: Sequence[float]
) -> NDArray[np.float64]:
    """Return the score of each response, shape (responses,); higher is better.

    Args:
        score: the quantity to score by; `likelihood` is the mean log-probability per token.
        texts: the responses.
        nll_per_token: negative log-likelihood per token of each response, in nats.
    """
    if score == "likelihood":
        return -np.array(nll_per_token, np.float64)
    return words_per_text(texts) if score == "length" else lexical_diversity(texts)


def best_vs_worst_pairs(
    prompts: Sequence[str], texts: Sequence[str], kept: Sequence[bool], scores: NDArray[np.float64]
) -> list[Pair]:
    """Pair the best kept response to each prompt with the worst response of another text.

    Of equal scores the first is taken. A response with a score of NaN is ignored. A prompt has no pair if its best
    response scores no higher than its worst.
    """
    rows_of_prompt: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        if not np.isnan(scores[row]):
            rows_of_prompt[prompt].append(row)
    pairs = []
    for rows in rows_of_prompt.values():
        kept_rows = [row for row in rows if kept[row]]
        if not kept_rows:
            continue
        best = max(kept_rows, key=lambda row: scores[row])
        different = (row for row in rows if texts[row] != texts[best])
        worst = min(different, key=lambda row: scores[row], default=best)
        if scores[best] > scores[worst]:
            pairs.append(Pair(best, worst, float(scores[best] - scores[worst])))
    return pairs
