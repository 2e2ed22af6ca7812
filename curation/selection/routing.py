"""Distribute prompts over topics and teachers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.selection.apportionment import largest_remainder

TeacherRewards: TypeAlias = Mapping[tuple[str, str], Sequence[float]]
"""What a teacher's answers in a stratum were worth, by (stratum, teacher)."""


def underrepresented_shares(human: NDArray[np.float64], synthetic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the next prompts by stratum, shape (strata,): what fills up the strata that were said too little.

    `human` and `said` are counts; with the next round as large as what was said, the two together come as near to the
    human shares as prompts can bring them.
    """
    shares = human / human.sum()
    missing = np.maximum(2 * synthetic.sum() * shares - synthetic, 0) if synthetic.sum() else shares
    return missing / missing.sum()


def assign_round_robin(prompts: int, teachers: Sequence[str], seed: int) -> list[str]:
    """A teacher for each prompt: all are asked alike, exactly to the prompt, in an order of dice."""
    turns = [
        name for name, times in largest_remainder(prompts, dict.fromkeys(teachers, 1.0)).items() for _ in range(times)
    ]
    return [turns[place] for place in np.random.default_rng(seed).permutation(prompts)]


def assign_by_thompson_sampling(
    strata: Sequence[str], teachers: Sequence[str], rewards: TeacherRewards, seed: int
) -> list[str]:
    """A teacher for each prompt, whose strata are given: who is likely to be worth most there (Thompson sampling).

    A worth is drawn for each teacher from what its answers in the stratum earned, with as much room for doubt as they
    are few, and the largest wins. A teacher without answers there is held for what it earned elsewhere, and one without
    any for as good as the best. Where nobody has earned anything, all are asked alike.
    """
    told = {key: [one for one in worth if not np.isnan(one)] for key, worth in rewards.items()}
    everything = [one for worth in told.values() for one in worth]
    if not everything:
        return assign_round_robin(len(strata), teachers, seed)
    rng, spread = np.random.default_rng(seed), float(np.std(everything)) or 1e-12
    overall = {name: [one for (_, who), worth in told.items() if who == name for one in worth] for name in teachers}
    best = max(float(np.mean(worth)) for worth in overall.values() if worth) if any(overall.values()) else 0.0
    found = [""] * len(strata)
    for stratum, count in sorted(Counter(strata).items()):
        draws = []
        for name in teachers:
            here = told.get((stratum, name), [])
            mean = float(np.mean(here or overall[name] or [best]))
            draws.append(rng.normal(mean, spread / np.sqrt(max(1, len(here))), count))
        winners = iter(np.argmax(draws, axis=0).tolist())
        for place in (place for place, one in enumerate(strata) if one == stratum):
            found[place] = teachers[next(winners)]
    return found
