"""Sampling with a purpose: which of several answers to keep, which teacher to ask, how many of each stratum.

Best of k by an attribute is active inheritance (Shimabucoro et al. 2024, "LLM See, LLM Do"); choosing the
teacher is arbitrage (Odumakinde et al. 2024); counts that follow their expectation instead of the dice are
systematic sampling (Madow 1949), which takes most of the sampling error out of a round.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.embedding import Vectors
from curation.programs import own_program
from curation.quotas import quotas
from curation.text import words

Earned: TypeAlias = Mapping[tuple[str, str], Sequence[float]]
"""What a teacher's answers in a stratum were worth, by (stratum, teacher)."""

_MTLD_FLOOR = 0.72


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
            own_program(objective)
        elif objective not in _OBJECTIVES and objective != "distance":
            known = ", ".join((*_OBJECTIVES, "distance"))
            raise ValueError(f"there is no objective {objective!r}; there are {known}, and package.module:function")
        return objective


def scores(settings: BestOfSettings, prompts: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """The objective of each text, shape (texts,), more is better; every objective but `distance`, which needs vectors.

    Raises:
        ValueError: the user's function gave another number of scores than there are texts.
    """
    if settings.objective in _OBJECTIVES:
        return _OBJECTIVES[settings.objective](texts)
    found = np.asarray(own_program(settings.objective)(prompts, texts), np.float64)
    if found.shape != (len(texts),):
        raise ValueError(f"{settings.objective} was given {len(texts)} texts and gave scores of shape {found.shape}")
    return found


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


def dealt(prompts: int, teachers: Sequence[str], seed: int) -> list[str]:
    """A teacher for each prompt: all are asked alike, exactly to the prompt, in an order of dice."""
    turns = [name for name, times in quotas(prompts, dict.fromkeys(teachers, 1.0)).items() for _ in range(times)]
    return [turns[place] for place in np.random.default_rng(seed).permutation(prompts)]


def routed(strata: Sequence[str], teachers: Sequence[str], earned: Earned, seed: int) -> list[str]:
    """A teacher for each prompt, whose strata are given: who is likely to be worth most there (Thompson sampling).

    A worth is drawn for each teacher from what its answers in the stratum earned, with as much room for doubt as they
    are few, and the largest wins. A teacher without answers there is held for what it earned elsewhere, and one without
    any for as good as the best. Where nobody has earned anything, all are asked alike.
    """
    told = {key: [one for one in worth if not np.isnan(one)] for key, worth in earned.items()}
    everything = [one for worth in told.values() for one in worth]
    if not everything:
        return dealt(len(strata), teachers, seed)
    dice, spread = np.random.default_rng(seed), float(np.std(everything)) or 1e-12
    overall = {name: [one for (_, who), worth in told.items() if who == name for one in worth] for name in teachers}
    best = max(float(np.mean(worth)) for worth in overall.values() if worth) if any(overall.values()) else 0.0
    found = [""] * len(strata)
    for stratum, count in sorted(Counter(strata).items()):
        draws = []
        for name in teachers:
            here = told.get((stratum, name), [])
            mean = float(np.mean(here or overall[name] or [best]))
            draws.append(dice.normal(mean, spread / np.sqrt(max(1, len(here))), count))
        winners = iter(np.argmax(draws, axis=0).tolist())
        for place in (place for place, one in enumerate(strata) if one == stratum):
            found[place] = teachers[next(winners)]
    return found


def filled(total: int, shares: NDArray[np.float64], room: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Counts by stratum that sum to `total`: systematic by the shares, and what a stratum has no room for goes to the others.

    Raises:
        ValueError: all of them together have no room for the total.
    """
    if total > room.sum():
        raise ValueError(f"{total} are asked for, and there are {int(room.sum())}")
    counts = np.zeros(len(shares), np.int64)
    while left := total - int(counts.sum()):
        open_ = room > counts
        # Where no share is left for anybody, what is there decides.
        weight = np.where(open_, shares, 0.0)
        weight = weight if weight.sum() > 0 else np.where(open_, room - counts, 0).astype(np.float64)
        asked = systematic(left * weight / weight.sum(), seed)
        # The last running sum is the total up to a rounding.
        asked[int(np.flatnonzero(weight)[-1])] += left - int(asked.sum())
        counts = np.clip(counts + asked, 0, room)
    return counts


def rarity(texts: Sequence[str], human: Mapping[str, int]) -> NDArray[np.int64]:
    """How rare the rarest human word of each text is, shape (texts,): log2 of its count in `human`; -1 where it has none."""
    return np.array(
        [
            int(np.log2(min(known))) if (known := [human[w] for w in words(text) if w in human]) else -1
            for text in texts
        ],
        np.int64,
    )


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


_OBJECTIVES: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {
    "length": lengths,
    "lexical_diversity": lexical_diversity,
}
