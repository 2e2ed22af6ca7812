"""Who stays: each row goes only because of an earlier one that it was compared with and that itself stays.

Comparing goes in turns. A star tells of every member whether it repeats the first of its bucket; where that first goes
itself, because of a text in another bucket, its members are back, and the next turn compares those who are
still there with one another. In small buckets the last turn has compared all who stay, so there the answer is that of
comparing every pair that shares a bucket.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from curation.buckets import Hashes, Places, find_buckets, sides
from curation.duplicates import Duplicates

Numbers = NDArray[np.float64]

_TURNS = 8


def find_keepers(
    hashes: Hashes,
    reference: int,
    compare: Callable[[Places], tuple[Numbers, Numbers]],
    threshold: float,
    threads: int,
    *,
    among_texts: bool,
) -> Duplicates:
    """Search in the buckets of `hashes`, shape (rows, bands), the first `reference` rows of which stay in any case.

    `compare` gives verified similarity (NaN where it did not verify) and estimate of sorted pairs.
    """
    buckets = find_buckets(hashes, threads)
    stays = np.ones(len(hashes), bool)
    known, similarity, estimate = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    for turn in range(_TURNS):
        pairs = buckets.among(stays).near() if turn else np.unique(buckets.stars())
        pairs = np.setdiff1d(_allowed(pairs, reference, among_texts), known, assume_unique=True)
        if not len(pairs):
            break
        found = compare(pairs)
        known = np.concatenate((known, pairs))
        similarity, estimate = np.concatenate((similarity, found[0])), np.concatenate((estimate, found[1]))
        stays = _first_stay(known[similarity >= threshold], len(hashes))
    return _told(known, similarity, estimate, stays, reference, threshold)


def _allowed(pairs: Places, reference: int, among_texts: bool) -> Places:
    left, right = sides(pairs)
    return pairs[(right >= reference) & (among_texts | (left < reference))]


def _first_stay(duplicates: Places, rows: int) -> NDArray[np.bool_]:
    left, right = sides(duplicates)
    order = np.argsort(right, kind="stable")
    stays = [True] * rows
    for one, other in zip(left[order].tolist(), right[order].tolist(), strict=True):
        if stays[one]:
            stays[other] = False
    return np.array(stays, bool)


def _told(
    pairs: Places,
    similarity: Numbers,
    estimate: Numbers,
    stays: NDArray[np.bool_],
    reference: int,
    threshold: float,
) -> Duplicates:
    """Of each text the nearest that stays, the earliest of equals."""
    answer = Duplicates.none(len(stays) - reference)
    left, right = sides(pairs)
    told = np.flatnonzero(stays[left] & ~np.isnan(similarity))
    order = told[np.lexsort((left[told], -similarity[told], right[told]))]
    _, nearest = np.unique(right[order], return_index=True)
    best = order[nearest]
    text = right[best] - reference
    answer.similarity[text], answer.estimate[text] = similarity[best], estimate[best]
    gone = similarity[best] >= threshold
    answer.keeper[text[gone]] = left[best[gone]]
    return answer
