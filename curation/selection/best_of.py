"""Score the responses to a prompt and keep the best one.

Selecting the best of n by an attribute is active inheritance (Shimabucoro et al. 2024, "LLM See, LLM Do").
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from curation.embeddings.base import Vectors
from curation.metrics.lexical_diversity import lexical_diversity
from curation.text import words
from curation.user_code import REWARDS
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

_BLOCK = 1024


class BestOfSettings(Settings):
    """`[curate.best_of]`: objective by which one response to each prompt is kept."""

    objective: str = Field(
        "lexical_diversity",
        description="score that the kept response maximizes: length (words), lexical_diversity (MTLD), distance (from "
        "human "
        "training records and earlier survivors), or your own reward as package.module:name or file.py:name, which "
        "receives "
        "prompts and texts and returns one number for each",
    )

    @field_validator("objective")
    @classmethod
    def _is_known(cls, objective: str) -> str:
        if objective not in _BUILTIN_OBJECTIVES:
            REWARDS.resolve(objective, _BUILTIN_OBJECTIVES)
        return objective

    @property
    def is_user_reward(self) -> bool:
        """Whether the objective is a function of the user's."""
        return self.objective not in _BUILTIN_OBJECTIVES


def score_responses(settings: BestOfSettings, prompts: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the objective of each text, shape (texts,); higher is better.

    `distance` needs vectors instead, see `nearest_distance`.

    Raises:
        HeirloomError: the user's function returned another number of scores than there are texts.
    """
    if settings.objective in _OBJECTIVES:
        return _OBJECTIVES[settings.objective](texts)
    scores = np.asarray(REWARDS.load(settings.objective)(list(prompts), list(texts)), np.float64)
    if scores.shape != (len(texts),):
        raise HeirloomError(
            f"{settings.objective} received {len(texts)} texts and returned scores of shape {scores.shape}. "
            "It must return one number for each text."
        )
    return scores


def select_best_of_n(groups: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each response has the highest score of its group, the first of equals.

    Args:
        groups: number of the prompt of each response, shape (responses,).
        scores: shape (responses,). NaN never wins: a group of NaN only keeps no response.
    """
    ranked = np.lexsort((np.arange(len(groups)), -np.nan_to_num(scores, nan=-np.inf), groups))
    first = np.ones(len(groups), bool)
    first[1:] = groups[ranked][1:] != groups[ranked][:-1]
    kept = np.zeros(len(groups), bool)
    kept[ranked[first]] = True
    return kept & ~np.isnan(scores)


def words_per_text(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the number of words of each text, shape (texts,)."""
    return np.array([len(words(text)) for text in texts], np.float64)


def nearest_distance(vectors: Vectors, reference: Vectors) -> NDArray[np.float64]:
    """Return 1 - cosine similarity to the nearest reference vector, shape (texts,); 1 without any reference vector."""
    if not len(reference):
        return np.ones(len(vectors))
    blocks = [1 - (vectors[start : start + _BLOCK] @ reference.T).max(1) for start in range(0, len(vectors), _BLOCK)]
    return np.concatenate([np.zeros(0), *blocks])


_OBJECTIVES: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {
    "length": words_per_text,
    "lexical_diversity": lexical_diversity,
}
_BUILTIN_OBJECTIVES = (*_OBJECTIVES, "distance")
