"""Sampling with a purpose: which of several answers to keep, which teacher to ask, how many of each stratum.

Best of k by an attribute is active inheritance (Shimabucoro et al. 2024, "LLM See, LLM Do"); choosing the
teacher is arbitrage (Odumakinde et al. 2024); counts that follow their expectation instead of the dice are
systematic sampling (Madow 1949), which takes most of the sampling error out of a round.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.embeddings.base import Vectors
from curation.metrics.lexical_diversity import lexical_diversity
from curation.text import words
from curation.user_code import load_user_function
from heirloom.errors import HeirloomError


class BestOfSettings(BaseModel):
    """`[curate.best_of]`: what the answer that stays has most of, among the answers to its prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: str = Field(
        "lexical_diversity",
        description="length (words), lexical_diversity (MTLD), distance (from the reserve and earlier survivors), or "
        "package.module:function, a reward model for instance: it is given prompts and texts, and gives a number for each",
    )

    @field_validator("objective")
    @classmethod
    def _is_known(cls, objective: str) -> str:
        if ":" in objective:
            load_user_function(objective)
        elif objective not in _OBJECTIVES and objective != "distance":
            known = ", ".join((*_OBJECTIVES, "distance"))
            raise HeirloomError(f"there is no objective {objective!r}; there are {known}, and package.module:function")
        return objective


def score_responses(settings: BestOfSettings, prompts: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """The objective of each text, shape (texts,), more is better; every objective but `distance`, which needs vectors.

    Raises:
        HeirloomError: the user's function gave another number of scores than there are texts.
    """
    if settings.objective in _OBJECTIVES:
        return _OBJECTIVES[settings.objective](texts)
    found = np.asarray(load_user_function(settings.objective)(prompts, texts), np.float64)
    if found.shape != (len(texts),):
        raise HeirloomError(f"{settings.objective} was given {len(texts)} texts and gave scores of shape {found.shape}")
    return found


def select_best_of_n(groups: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each answer, shape (answers,), is its group's best; of equals the first. A score of NaN never wins.

    A group whose scores are all NaN keeps nothing.
    """
    ranked = np.lexsort((np.arange(len(groups)), -np.nan_to_num(scores, nan=-np.inf), groups))
    first = np.ones(len(groups), bool)
    first[1:] = groups[ranked][1:] != groups[ranked][:-1]
    kept = np.zeros(len(groups), bool)
    kept[ranked[first]] = True
    return kept & ~np.isnan(scores)


def words_per_text(texts: Sequence[str]) -> NDArray[np.float64]:
    """Words in each text, shape (texts,)."""
    return np.array([len(words(text)) for text in texts], np.float64)


def nearest_distance(vectors: Vectors, known: Vectors) -> NDArray[np.float64]:
    """1 less the cosine similarity to the nearest of `known`, shape (texts,); 1 where nothing is known."""
    if not len(known):
        return np.ones(len(vectors))
    blocks = range(0, len(vectors), 1024)
    return np.concatenate([np.zeros(0), *(1 - (vectors[start : start + 1024] @ known.T).max(1) for start in blocks)])


_OBJECTIVES: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {
    "length": words_per_text,
    "lexical_diversity": lexical_diversity,
}
