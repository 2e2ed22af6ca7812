"""Sample numbers of records per stratum, and stratify texts by their rarest word."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curation.text import words
from heirloom.errors import HeirloomError


def systematic_sample(expected: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Round expected counts at random so that every running sum is within one of the expected one, shape (strata,).

    Each count is its expectation rounded down or up, and equal to it on average over seeds. This removes most of the
    sampling error of a round (systematic sampling, Madow 1949).
    """
    offset = np.random.default_rng(seed).random()
    running = np.floor(np.cumsum(expected) + offset).astype(np.int64)
    return np.diff(running, prepend=np.int64(0))


def fill_to_total(total: int, shares: NDArray[np.float64], capacity: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return counts by stratum that sum to `total`, sampled by the shares; excess over a capacity goes to other strata.

    Args:
        total: sum of the counts.
        shares: share of each stratum, shape (strata,).
        capacity: largest count of each stratum, shape (strata,).
        seed: of the random rounding.

    Raises:
        HeirloomError: the total exceeds the sum of the capacities.
    """
    if total > capacity.sum():
        raise HeirloomError(f"{total} records are required, but only {int(capacity.sum())} are available.")
    counts = np.zeros(len(shares), np.int64)
    while left := total - int(counts.sum()):
        has_room = capacity > counts
        weight = np.where(has_room, shares, 0.0)
        if weight.sum() <= 0:
            # All strata with room have a share of 0: divide by the room that is left.
            weight = np.where(has_room, capacity - counts, 0).astype(np.float64)
        drawn = systematic_sample(left * weight / weight.sum(), seed)
        # The last running sum can miss the total by a rounding error.
        drawn[int(np.flatnonzero(weight)[-1])] += left - int(drawn.sum())
        counts = np.clip(counts + drawn, 0, capacity)
    return counts


def rarest_word_bin(texts: Sequence[str], human_counts: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the rounded-down log2 of the human count of each text's rarest human word, shape (texts,); -1 for none.

    Args:
        texts: the texts to stratify.
        human_counts: number of occurrences of each word in human text.
    """
    bins = []
    for text in texts:
        counts = [human_counts[word] for word in words(text) if word in human_counts]
        bins.append(int(np.log2(min(counts))) if counts else -1)
    return np.array(bins, np.int64)
