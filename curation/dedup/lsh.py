"""Choose the pairs to compare by locality-sensitive hashing, and the row that represents each group of near-duplicates.

Texts that share a band hash are in one bucket. A shared template puts thousands of texts into one bucket, whose pairs
would be millions, so a bucket is never joined with itself. The search goes in rounds:

1. Compare each member of a bucket with the bucket's first row (a star), and drop the duplicates.
2. Among the rows that remain, compare all pairs of a small bucket. In a large bucket, compare each member with the
   first row and with the member before it (a chain). Repeat until no new pairs appear.

Invariant: a row is dropped only in favor of an earlier row that it was compared with and that is itself kept.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.decisions import DuplicateMatches
from curation.dedup.kernels.types import Hashes, Indices, Similarities

_SMALL_BUCKET = 16
"""Buckets of at most this many members have all their pairs compared after the first round."""

_MAX_ROUNDS = 8


@dataclass(frozen=True)
class LshBuckets:
    """Members of all buckets with more than one row, sorted by bucket, then by row."""

    bucket: Indices
    """Bucket number of each member."""
    row: Indices

    def restrict(self, kept: NDArray[np.bool_]) -> "LshBuckets":
        """Return the buckets without the rows that are not kept."""
        remaining = kept[self.row]
        return LshBuckets(self.bucket[remaining], self.row[remaining])

    def star_pairs(self) -> Indices:
        """Return the packed pairs of the first member of each bucket with every other member."""
        first = self._first_members()
        others = first != np.arange(len(first))
        return pack_pairs(self.row[first[others]], self.row[others])

    def all_pairs(self) -> Indices:
        """Return all packed pairs of small buckets; of large ones the star and the pairs of neighboring members."""
        return np.unique(np.concatenate([self.star_pairs(), *self._window_pairs()]))

    def _first_members(self) -> Indices:
        """Return the position of the first member of each member's bucket."""
        begins = np.concatenate(([True], self.bucket[1:] != self.bucket[:-1]))[: len(self.bucket)]
        return np.maximum.accumulate(np.where(begins, np.arange(len(self.bucket)), 0))

    def _window_pairs(self) -> Iterator[Indices]:
        _, inverse, sizes = np.unique(self.bucket, return_inverse=True, return_counts=True)
        small = sizes[inverse] <= _SMALL_BUCKET
        for distance in range(1, min(_SMALL_BUCKET, len(self.bucket))):
            same_bucket = self.bucket[distance:] == self.bucket[:-distance]
            positions = np.flatnonzero(same_bucket & (small[distance:] | (distance == 1)))
            yield pack_pairs(self.row[positions], self.row[positions + distance])


@dataclass(frozen=True, kw_only=True)
class SearchScope:
    """Pairs that a search compares, and the similarity of a duplicate."""

    num_reference: int
    """The first rows, which are always kept and not compared with each other."""
    among_texts: bool
    """Whether the rows after the reference are compared with each other too."""
    threshold: float
    """Similarity at or above which a pair is a duplicate."""


def find_lsh_buckets(hashes: Hashes, threads: int) -> LshBuckets:
    """Group rows by band hash.

    Within a band, hash and row number are packed into one integer and sorted. The row number replaces a few bits of the
    hash, which can only add a pair that the comparison rejects.

    Args:
        hashes: band hashes, shape (rows, bands); a row whose hashes are 0 has no shingle and joins no bucket.
        threads: number of threads.
    """
    num_rows, num_bands = hashes.shape
    row_bits = np.uint64(max(1, (num_rows - 1).bit_length()))
    rows = np.flatnonzero(hashes[:, 0]).astype(np.uint64)

    def members(band: int) -> tuple[Indices, Indices]:
        keys = hashes[:, band][rows] if len(rows) < num_rows else hashes[:, band].copy()
        keys = keys >> row_bits << row_bits | rows
        keys.sort()
        same_as_next = keys[1:] >> row_bits == keys[:-1] >> row_bits
        in_bucket = np.concatenate((same_as_next, [False])) | np.concatenate(([False], same_as_next))
        positions = np.flatnonzero(in_bucket) if len(keys) else np.zeros(0, np.int64)
        number = np.cumsum(~np.concatenate(([False], same_as_next))[positions])
        return number, (keys[positions] & ((np.uint64(1) << row_bits) - np.uint64(1))).astype(np.int64)

    bucket_parts, row_parts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    if len(rows):
        with ThreadPoolExecutor(threads) as pool:
            for band, (number, member_rows) in enumerate(pool.map(members, range(num_bands))):
                bucket_parts.append(number + band * num_rows)
                row_parts.append(member_rows)
    return LshBuckets(np.concatenate(bucket_parts), np.concatenate(row_parts))


def pack_pairs(left: Indices, right: Indices) -> Indices:
    """Pack each pair into one integer that sorts by left, then by right."""
    return left << 32 | right


def unpack_pairs(pairs: Indices) -> tuple[Indices, Indices]:
    """Return the left and the right rows of packed pairs."""
    return pairs >> 32, pairs & 0xFFFFFFFF


def select_representatives(
    hashes: Hashes, compare: Callable[[Indices], tuple[Similarities, Similarities]], scope: SearchScope, threads: int
) -> DuplicateMatches:
    """Find for each row after the reference the most similar kept row that it was compared with.

    Args:
        hashes: band hashes, shape (rows, bands), reference rows first.
        compare: returns the verified similarity (NaN if a pair was not verified) and the estimate of sorted packed
            pairs.
        scope: the pairs to compare.
        threads: number of threads.
    """
    buckets = find_lsh_buckets(hashes, threads)
    kept = np.ones(len(hashes), bool)
    pairs, similarity, estimate = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    for round_number in range(_MAX_ROUNDS):
        candidates = buckets.restrict(kept).all_pairs() if round_number else np.unique(buckets.star_pairs())
        new_pairs = np.setdiff1d(_in_scope(candidates, scope), pairs, assume_unique=True)
        if not len(new_pairs):
            break
        new_similarity, new_estimate = compare(new_pairs)
        pairs = np.concatenate((pairs, new_pairs))
        similarity = np.concatenate((similarity, new_similarity))
        estimate = np.concatenate((estimate, new_estimate))
        kept = _keep_first(pairs[similarity >= scope.threshold], len(hashes))
    return _nearest_kept(_ComparedPairs(pairs=pairs, similarity=similarity, estimate=estimate), kept, scope)


@dataclass(frozen=True, kw_only=True)
class _ComparedPairs:
    pairs: Indices
    similarity: Similarities
    estimate: Similarities


def _in_scope(pairs: Indices, scope: SearchScope) -> Indices:
    left, right = unpack_pairs(pairs)
    return pairs[(right >= scope.num_reference) & (scope.among_texts | (left < scope.num_reference))]


def _keep_first(duplicates: Indices, num_rows: int) -> NDArray[np.bool_]:
    """Drop the right row of each duplicate pair whose left row is kept, in the order of the right rows."""
    left, right = unpack_pairs(duplicates)
    order = np.argsort(right, kind="stable")
    kept = [True] * num_rows
    for left_row, right_row in zip(left[order].tolist(), right[order].tolist(), strict=True):
        if kept[left_row]:
            kept[right_row] = False
    return np.array(kept, bool)


def _nearest_kept(compared: _ComparedPairs, kept: NDArray[np.bool_], scope: SearchScope) -> DuplicateMatches:
    """Return for each text its most similar kept row, the earliest of equals."""
    num_texts = len(kept) - scope.num_reference
    left, right = unpack_pairs(compared.pairs)
    verified = np.flatnonzero(kept[left] & ~np.isnan(compared.similarity))
    order = verified[np.lexsort((left[verified], -compared.similarity[verified], right[verified]))]
    _, first_of_text = np.unique(right[order], return_index=True)
    best = order[first_of_text]
    text = right[best] - scope.num_reference
    duplicate_of = np.full(num_texts, -1, np.int64)
    similarity, estimated = np.full(num_texts, np.nan), np.full(num_texts, np.nan)
    similarity[text], estimated[text] = compared.similarity[best], compared.estimate[best]
    dropped = compared.similarity[best] >= scope.threshold
    duplicate_of[text[dropped]] = left[best[dropped]]
    return DuplicateMatches(duplicate_of=duplicate_of, similarity=similarity, estimated=estimated)
