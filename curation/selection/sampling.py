"""Sample rows: systematically, up to a total, by rarity."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curation.text import words
from heirloom.errors import HeirloomError


def systematic_sample(expected: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Counts whose every running sum is within one of the expected one, shape (strata,).

    Each count is its expectation rounded down or up, and right on average over seeds.
    """
    offset = np.random.default_rng(seed).random()
    running = np.floor(np.cumsum(expected) + offset).astype(np.int64)
    return np.diff(running, prepend=np.int64(0))


def fill_to_total(total: int, shares: NDArray[np.float64], capacity: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Counts by stratum that sum to `total`: systematic by the shares, and what a stratum has no room for goes to the others.

    Raises:
        HeirloomError: all of them together have no room for the total.
    """
    if total > capacity.sum():
        raise HeirloomError(f"{total} are asked for, and there are {int(capacity.sum())}")
    counts = np.zeros(len(shares), np.int64)
    while left := total - int(counts.sum()):
        open_ = capacity > counts
        # Where no share is left for anybody, what is there decides.
        weight = np.where(open_, shares, 0.0)
        weight = weight if weight.sum() > 0 else np.where(open_, capacity - counts, 0).astype(np.float64)
        asked = systematic_sample(left * weight / weight.sum(), seed)
        # The last running sum is the total up to a rounding.
        asked[int(np.flatnonzero(weight)[-1])] += left - int(asked.sum())
        counts = np.clip(counts + asked, 0, capacity)
    return counts


def rarest_word_bin(texts: Sequence[str], human: Mapping[str, int]) -> NDArray[np.int64]:
    """How rare the rarest human word of each text is, shape (texts,): log2 of its count in `human`; -1 where it has none."""
    return np.array(
        [
            int(np.log2(min(known))) if (known := [human[w] for w in words(text) if w in human]) else -1
            for text in texts
        ],
        np.int64,
    )
