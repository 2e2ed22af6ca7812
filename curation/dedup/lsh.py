"""Which pairs are compared: texts that share a band, without ever joining a bucket with itself.

A shared template puts thousands of texts into one bucket, and all their pairs would be millions. First each member is
paired with the bucket's first alone (a star). Then, among the texts that are still there, all pairs of a small
bucket are made, and in a large one the pairs with its first and with the one before (a chain).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.decisions import DuplicateMatches

Places = NDArray[np.int64]


Hashes = NDArray[np.uint64]


_SMALL = 16
"""Members of a bucket, all pairs of which are made once the stars have thinned it out."""


@dataclass(frozen=True)
class LshBuckets:
    """Members of all buckets that hold more than one row; by bucket, then by row."""

    bucket: Places
    row: Places

    def restrict(self, stays: NDArray[np.bool_]) -> "LshBuckets":
        """The buckets without the rows that do not stay."""
        there = stays[self.row]
        return LshBuckets(self.bucket[there], self.row[there])

    def star_pairs(self) -> Places:
        """Pairs of each member with the first of its bucket."""
        first = self._firsts()
        others = first != np.arange(len(first))
        return pack_pairs(self.row[first[others]], self.row[others])

    def all_pairs(self) -> Places:
        """All pairs in small buckets; in large ones those with the first, and with the one before."""
        return np.unique(np.concatenate([self.star_pairs(), *self._windows()]))

    def _firsts(self) -> Places:
        """Place of the first member of each member's bucket."""
        begins = np.concatenate(([True], self.bucket[1:] != self.bucket[:-1]))[: len(self.bucket)]
        return np.maximum.accumulate(np.where(begins, np.arange(len(self.bucket)), 0))

    def _windows(self) -> Iterator[Places]:
        _, back, sizes = np.unique(self.bucket, return_inverse=True, return_counts=True)
        small = sizes[back] <= _SMALL
        for distance in range(1, min(_SMALL, len(self.bucket))):
            together = self.bucket[distance:] == self.bucket[:-distance]
            places = np.flatnonzero(together & (small[distance:] | (distance == 1)))
            yield pack_pairs(self.row[places], self.row[places + distance])


def find_lsh_buckets(hashes: Hashes, threads: int) -> LshBuckets:
    """Buckets of band hashes, shape (rows, bands); a row whose hashes are 0 has no shingle and is in none.

    Within a band, hash and row are packed into one integer and sorted; the few bits of the hash that the row takes
    can only add a pair that the comparison refuses.
    """
    bits = max(1, (len(hashes) - 1).bit_length())
    rows = np.flatnonzero(hashes[:, 0]).astype(np.uint64)

    def members(band: int) -> tuple[Places, Places]:
        keys = hashes[:, band][rows] if len(rows) < len(hashes) else hashes[:, band].copy()
        keys = keys >> np.uint64(bits) << np.uint64(bits) | rows
        keys.sort()
        same = keys[1:] >> np.uint64(bits) == keys[:-1] >> np.uint64(bits)
        inside = np.concatenate((same, [False])) | np.concatenate(([False], same))
        begins = np.flatnonzero(inside) if len(keys) else np.zeros(0, np.int64)
        number = np.cumsum(~np.concatenate(([False], same))[begins])
        return number, (keys[begins] & np.uint64((1 << bits) - 1)).astype(np.int64)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(members, range(hashes.shape[1]))) if len(rows) else []
    return LshBuckets(
        np.concatenate(
            [np.zeros(0, np.int64), *(number + band * len(hashes) for band, (number, _) in enumerate(found))]
        ),
        np.concatenate([np.zeros(0, np.int64), *(row for _, row in found)]),
    )


def pack_pairs(left: Places, right: Places) -> Places:
    """One integer a pair, in the order of left, then right."""
    return left << 32 | right


def unpack_pairs(pairs: Places) -> tuple[Places, Places]:
    """Left and right of pairs."""
    return pairs >> 32, pairs & 0xFFFFFFFF


Numbers = NDArray[np.float64]


_TURNS = 8


def select_representatives(
    hashes: Hashes,
    reference: int,
    compare: Callable[[Places], tuple[Numbers, Numbers]],
    threshold: float,
    threads: int,
    *,
    among_texts: bool,
) -> DuplicateMatches:
    """Search in the buckets of `hashes`, shape (rows, bands), the first `reference` rows of which stay in any case.

    `compare` gives verified similarity (NaN where it did not verify) and estimate of sorted pairs.
    """
    buckets = find_lsh_buckets(hashes, threads)
    stays = np.ones(len(hashes), bool)
    known, similarity, estimate = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    for turn in range(_TURNS):
        pairs = buckets.restrict(stays).all_pairs() if turn else np.unique(buckets.star_pairs())
        pairs = np.setdiff1d(_allowed(pairs, reference, among_texts), known, assume_unique=True)
        if not len(pairs):
            break
        found = compare(pairs)
        known = np.concatenate((known, pairs))
        similarity, estimate = np.concatenate((similarity, found[0])), np.concatenate((estimate, found[1]))
        stays = _first_stay(known[similarity >= threshold], len(hashes))
    return _told(known, similarity, estimate, stays, reference, threshold)


def _allowed(pairs: Places, reference: int, among_texts: bool) -> Places:
    left, right = unpack_pairs(pairs)
    return pairs[(right >= reference) & (among_texts | (left < reference))]


def _first_stay(duplicates: Places, rows: int) -> NDArray[np.bool_]:
    left, right = unpack_pairs(duplicates)
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
) -> DuplicateMatches:
    """Of each text the nearest that stays, the earliest of equals."""
    answer = DuplicateMatches.all_kept(len(stays) - reference)
    left, right = unpack_pairs(pairs)
    told = np.flatnonzero(stays[left] & ~np.isnan(similarity))
    order = told[np.lexsort((left[told], -similarity[told], right[told]))]
    _, nearest = np.unique(right[order], return_index=True)
    best = order[nearest]
    text = right[best] - reference
    answer.similarity[text], answer.estimated[text] = similarity[best], estimate[best]
    gone = similarity[best] >= threshold
    answer.duplicate_of[text[gone]] = left[best[gone]]
    return answer
