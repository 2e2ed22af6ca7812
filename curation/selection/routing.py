"""Distribute prompts over strata and teachers.

Choosing the teacher of each prompt by its past rewards is multilingual arbitrage (Odumakinde et al. 2024).
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.selection.apportionment import largest_remainder, rows_by_group

TeacherRewards: TypeAlias = Mapping[tuple[str, str], Sequence[float]]
"""Scores of a teacher's responses in a stratum, by (stratum, teacher)."""


def underrepresented_shares(human: NDArray[np.float64], synthetic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares of the next prompts by stratum, shape (strata,), higher where synthetic records are missing.

    With a next round as large as the last one, both rounds together come as close to the human shares as prompts can
    bring them.

    Args:
        human: number of human records of each stratum, shape (strata,).
        synthetic: number of synthetic records of the last round, shape (strata,).
    """
    shares = human / human.sum()
    missing = np.maximum(2 * synthetic.sum() * shares - synthetic, 0) if synthetic.sum() else shares
    return missing / missing.sum()


def assign_round_robin(prompts: int, teachers: Sequence[str], seed: int) -> list[str]:
    """Return a teacher for each prompt, in random order; the numbers of prompts per teacher differ by at most 1."""
    counts = largest_remainder(prompts, dict.fromkeys(teachers, 1.0))
    assignments = [name for name, count in counts.items() for _ in range(count)]
    return [assignments[position] for position in np.random.default_rng(seed).permutation(prompts)]


def assign_by_thompson_sampling(
    strata: Sequence[str], teachers: Sequence[str], rewards: TeacherRewards, seed: int
) -> list[str]:
    """Return a teacher for each prompt by Thompson sampling: draw a mean reward for each, and take the largest.

    The mean of a teacher in a stratum is drawn from a normal distribution around its mean reward, with a standard error
    that falls with the number of rewards. A teacher without rewards in the stratum has the mean of its rewards
    elsewhere; one without any reward has the mean of the best teacher. Without any rewards, prompts are assigned
    round-robin.

    Args:
        strata: stratum of each prompt.
        teachers: names of the teachers.
        rewards: past rewards; NaN is ignored.
        seed: of the random numbers.
    """
    valid = {key: [reward for reward in values if not np.isnan(reward)] for key, values in rewards.items()}
    all_rewards = [reward for values in valid.values() for reward in values]
    if not all_rewards:
        return assign_round_robin(len(strata), teachers, seed)
    rng, deviation = np.random.default_rng(seed), float(np.std(all_rewards)) or 1e-12
    overall: dict[str, list[float]] = {name: [] for name in teachers}
    for (_, teacher), values in valid.items():
        if teacher in overall:
            overall[teacher] += values
    mean_of = {name: float(np.mean(values)) for name, values in overall.items() if values}
    best_mean = max(mean_of.values(), default=0.0)
    assigned = [""] * len(strata)
    rows_of = rows_by_group(strata)
    for stratum in sorted(set(strata)):
        rows = rows_of[stratum].tolist()
        draws = []
        for name in teachers:
            here = valid.get((stratum, name), [])
            mean = float(np.mean(here)) if here else mean_of.get(name, best_mean)
            draws.append(rng.normal(mean, deviation / np.sqrt(max(1, len(here))), len(rows)))
        winners = np.argmax(draws, axis=0).tolist()
        for row, winner in zip(rows, winners, strict=True):
            assigned[row] = teachers[winner]
    return assigned
