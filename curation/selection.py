"""Sampling with a purpose: which of several answers to keep, which teacher to ask, how many of each stratum.

Best of k by an attribute is active inheritance (Shimabucoro et al. 2024, "LLM See, LLM Do"); choosing the
teacher is arbitrage (Odumakinde et al. 2024); counts that follow their expectation instead of the dice are
systematic sampling (Madow 1949), which takes most of the sampling error out of a round.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curation.embedding import Vectors
from curation.text import words

Arbitrage = Literal["fixed", "reward", "routed"]

_MTLD_FLOOR = 0.72


def best_of(groups: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each answer, shape (answers,), is its group's best; of equals the first. A score of NaN never wins.

    A group whose scores are all NaN keeps nothing.
    """
    ranked = np.lexsort((np.arange(len(groups)), -np.nan_to_num(scores, nan=-np.inf), groups))
    first = np.ones(len(groups), bool)
    first[1:] = groups[ranked][1:] != groups[ranked][:-1]
    kept = np.zeros(len(groups), bool)
    kept[ranked[first]] = True
    return kept & ~np.isnan(scores)


def lengths(texts: Sequence[str]) -> NDArray[np.float64]:
    """Words in each text, shape (texts,)."""
    return np.array([len(words(text)) for text in texts], np.float64)


def lexical_diversity(texts: Sequence[str]) -> NDArray[np.float64]:
    """MTLD of each text, shape (texts,): mean length of runs in which the type-token ratio stays above 0.72.

    Forwards and backwards, averaged; 0 for a text without words. McCarthy & Jarvis 2010.
    """
    found = []
    for text in texts:
        said = words(text)
        found.append((_run_length(said) + _run_length(said[::-1])) / 2 if said else 0.0)
    return np.array(found, np.float64)


def distances(vectors: Vectors, known: Vectors) -> NDArray[np.float64]:
    """1 less the cosine similarity to the nearest of `known`, shape (texts,); 1 where nothing is known."""
    if not len(known):
        return np.ones(len(vectors))
    blocks = range(0, len(vectors), 1024)
    return np.concatenate([np.zeros(0), *(1 - (vectors[start : start + 1024] @ known.T).max(1) for start in blocks)])


def systematic(expected: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Counts whose every running sum is within one of the expected one, shape (strata,).

    Each count is its expectation rounded down or up, and right on average over seeds.
    """
    offset = np.random.default_rng(seed).random()
    running = np.floor(np.cumsum(expected) + offset).astype(np.int64)
    return np.diff(running, prepend=np.int64(0))


def steered(human: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the next prompts by stratum, shape (strata,): what fills up the strata that were said too little.

    `human` and `said` are counts; with the next round as large as what was said, the two together come as near to the
    human shares as prompts can bring them.
    """
    shares = human / human.sum()
    missing = np.maximum(2 * said.sum() * shares - said, 0) if said.sum() else shares
    return missing / missing.sum()


def teachers(policy: Arbitrage, rewards: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Which teacher to ask for each stratum, shape (strata,).

    `rewards`, shape (strata, teachers, tries), are what answers have earned, NaN where a teacher was not asked.
    `fixed` asks the teacher who is best over all; `reward` the best of each stratum; `routed` draws one reward a teacher
    and stratum from what it earned, with room for doubt, and asks the winner (Thompson sampling).

    Raises:
        ValueError: a teacher was never asked anything.
    """
    tried = (~np.isnan(rewards)).sum(2)
    if not tried.sum(0).all():
        raise ValueError("every teacher must have answered once before one is chosen; ask each of them first")
    overall = np.nanmean(rewards, axis=(0, 2))
    if policy == "fixed":
        return np.full(len(rewards), int(overall.argmax()))
    mean = np.where(tried, np.nansum(rewards, axis=2) / np.maximum(tried, 1), overall)
    if policy == "reward":
        return mean.argmax(1)
    spread = np.nanstd(rewards) / np.sqrt(np.maximum(tried, 1))
    return np.random.default_rng(seed).normal(mean, spread).argmax(1)


def _run_length(said: Sequence[str]) -> float:
    runs, types, length = 0.0, set[str](), 0
    for word in said:
        types.add(word)
        length += 1
        if len(types) / length <= _MTLD_FLOOR:
            runs, types, length = runs + 1, set(), 0
    if length:
        runs += (1 - len(types) / length) / (1 - _MTLD_FLOOR)
    return len(said) / runs if runs else float(len(said))
