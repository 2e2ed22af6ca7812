"""Sample rows: systematically, up to a total, by rarity."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curation.text import words


def systematic(expected: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Counts whose every running sum is within one of the expected one, shape (strata,).

    Each count is its expectation rounded down or up, and right on average over seeds.
    """
    offset = np.random.default_rng(seed).random()
    running = np.floor(np.cumsum(expected) + offset).astype(np.int64)
    return np.diff(running, prepend=np.int64(0))


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
