"""Closed forms of the loss of vocabulary in a loop, each with its source.

They hold for models that fit their corpus exactly and are sampled without bias; the errors of a real model add to the
loss.
"""

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError

Numbers = NDArray[np.float64]


def type_survival(counts: Numbers, generations: int) -> Numbers:
    """Return the probability that a type with this human count survives rounds of `replace`, shape as counts.

    1 - f_k^c with f_0 = 0 and f_k = exp(f_{k-1} - 1): each occurrence has Poisson(1) offspring. The published bound
    1 - exp(-c/k) (Suresh et al. 2024, arXiv:2412.17646) lies below.
    """
    extinction = 0.0
    for _ in range(generations):
        extinction = np.exp(extinction - 1)
    return np.asarray(1 - extinction**counts)


def type_presence_at_equilibrium(counts: Numbers, human_fraction: float, rounds: int = 2000) -> Numbers:
    """Return the long-run probability that a type is present, with a fixed human fraction in every round.

    `counts` are the expected counts in a human sample of the size of a round. 1 - exp(-a L sum_j (1 - s_j)) with s_0 =
    0 and s_{j+1} = exp((1-a)(s_j - 1)): each round's human arrivals, and the descendants of them that are left.
    """
    return np.asarray(1 - np.exp(-human_fraction * counts * _descent(human_fraction, rounds)))


def type_presence_after(counts: Numbers, human_fraction: float, generations: int) -> Numbers:
    """Return the same probability after `generations` rounds, starting from a corpus of human records only."""
    state = arrivals = 0.0
    for _ in range(generations):
        arrivals += 1 - state
        state = float(np.exp((1 - human_fraction) * (state - 1)))
    return np.asarray(1 - np.exp(-counts * (human_fraction * arrivals + 1 - state)))


def human_fraction_needed(count: float, presence: float, generations: int | None = None) -> float:
    """Return the least human fraction that keeps a type of this expected count with this probability.

    Inverts `type_presence_after` if `generations` is given, else `type_presence_at_equilibrium`, by bisection.

    Raises:
        HeirloomError: the probability is above 1 - exp(-count), that of human text alone.
    """
    highest = float(type_presence_at_equilibrium(np.array([count]), 1.0)[0])
    if presence > highest:
        raise HeirloomError(
            f"A type with expected count {count:g} is in a human sample with a probability of {highest:.3f} at most; "
            "required "
            f"is {presence:g}. Lower the required probability, or choose more frequent types."
        )
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        counts = np.array([count])
        if generations:
            reached = type_presence_after(counts, middle, generations)[0]
        else:
            reached = type_presence_at_equilibrium(counts, middle)[0]
        if reached >= presence:
            high = middle
        else:
            low = middle
    return high


def _descent(human_fraction: float, rounds: int) -> float:
    state = total = 0.0
    for _ in range(rounds):
        total += 1 - state
        state = float(np.exp((1 - human_fraction) * (state - 1)))
    return total
