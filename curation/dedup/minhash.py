"""Find near-duplicates by MinHash and LSH, verified by the exact Jaccard similarity of shingle sets.

A text is folded and cut into tokens: words and symbols, one per character in scripts without spaces (`curation.text`).
Its shingles are runs of tokens or characters; a text with fewer units is one shingle. Bands and rows are chosen for
recall. Precision comes from verification: no pair is a duplicate by its estimate alone. A text is dropped only in favor
of a text that it was compared with and that is itself kept; reference texts come before the texts, earlier texts before
later ones. Texts without a token have no shingles and are never near-duplicates.

**Signature format 2.** A shingle hash has 64 bits (see `curation.dedup.kernels.numba_kernels`). Signatures hash its
upper 32 bits and equal datasketch's `MinHash(num_perm=bands * rows, seed=1, scheme="affine32", hashfunc=int)` value for
value, as uint32; all ones stands for a text without a shingle. A band hash mixes the values of one band and the band's
number into 64 bits; 0 stands for a text without a shingle. Exact Jaccard similarity uses the 64-bit hashes.

Broder 1997, "On the resemblance and containment of documents".
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curation.decisions import DuplicateMatches
from curation.dedup.kernels.dispatch import HashKernel, available_cores, choose_kernel, map_blocks
from curation.dedup.kernels.text_buffer import TextBuffer, Texts, to_text_buffer
from curation.dedup.kernels.types import Hashes, Indices, Shingling, Signatures, Similarities
from curation.dedup.lsh import SearchScope, pack_pairs, select_representatives, unpack_pairs
from curation.dedup.reference import SketchBatch
from curation.text import Normalization, ShingleUnit
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

SIGNATURE_FORMAT = 2
"""Raised when the same text and settings could give another signature or band hash."""

EMPTY_VALUE = np.uint32(0xFFFFFFFF)
"""Every signature value of a text without a shingle."""

_LOW_16_BITS = np.uint32(0xFFFF)
_MAX_SHINGLE_WORDS = 9
_ESTIMATE_SLACK = 5
"""Standard deviations by which an estimate may lie below the threshold before a pair is not verified."""
_FREQUENCY_SAMPLE, _MIN_FREQUENT_TEXTS = 2000, 10
"""Texts whose shingles are counted, evenly spaced, and the number of them that must contain a frequent shingle."""
_ReadTexts: TypeAlias = Callable[[Indices], Texts]


class MinHashSettings(Settings):
    """`[curate.minhash]`: definition of a near-duplicate."""

    threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity at or above which a text is a near-duplicate of another"
    )
    normalization: Normalization = Field(
        "text",
        description="what counts when texts are compared: text (words without case, and symbols such as + - $ and "
        "emoji; no punctuation) or code (also case, punctuation, line breaks and levels of indentation)",
    )
    shingle_unit: ShingleUnit = Field("words", description="unit of a shingle: words (and symbols) or characters")
    shingle_length: int = Field(
        3, ge=1, le=32, description="units in a shingle: 2 or 3 words for short texts, 5 for documents"
    )
    num_bands: int = Field(
        25, ge=1, description="bands of a signature; two texts are compared if one band agrees, so more find more"
    )
    rows_per_band: int = Field(
        5,
        ge=1,
        description="values in a band; more compare fewer pairs; num_bands x rows_per_band is the length of a "
        "signature",
    )
    max_shingle_document_frequency: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="shingles in more than this fraction of the texts, such as a template's, are ignored; a text "
        "without "
        "any other shingle keeps them",
    )

    @property
    def shingling(self) -> Shingling:
        """What a shingle is, for the kernels."""
        return Shingling(
            by_word=self.shingle_unit == "words", length=self.shingle_length, normalization=self.normalization
        )

    @property
    def shingle_words(self) -> int:
        """Words in a shingle, for comparisons that use words whatever the unit is."""
        return self.shingle_length if self.shingle_unit == "words" else 3

    @model_validator(mode="after")
    def _is_not_too_long(self) -> Self:
        if self.shingle_words > _MAX_SHINGLE_WORDS:
            raise HeirloomError(
                f"`shingle_length` is {self.shingle_length} words, and at most {_MAX_SHINGLE_WORDS} are supported. "
                "Lower it, or set `shingle_unit` to `characters`."
            )
        return self


def find_near_duplicates(
    texts: Texts,
    reference: Texts,
    settings: MinHashSettings,
    *,
    among_texts: bool = True,
    kernel: HashKernel | None = None,
) -> DuplicateMatches:
    """Find for each text the most similar kept text that it was compared with. All kernels give the same result.

    Args:
        texts: the texts to decide about.
        reference: texts that come before them and are always kept.
        settings: definition of a near-duplicate.
        among_texts: whether texts are compared with earlier `texts` too, not only with `reference`.
        kernel: by default the one that is faster for this amount of text.
    """
    hasher = _MinHasher(_buffer(settings, reference, texts), settings, kernel)
    low16, hashes = hasher.sketches()
    return hasher.search(low16, hashes, hasher.scope(len(reference), among_texts))


def find_near_duplicates_indexed(
    texts: Texts,
    candidates_of: Callable[[Hashes], SketchBatch],
    settings: MinHashSettings,
    *,
    among_texts: bool = True,
    kernel: HashKernel | None = None,
) -> tuple[SketchBatch, DuplicateMatches]:
    """As `find_near_duplicates`, with a reference that was sketched before; its texts are read only to verify a pair.

    Args:
        texts: the texts to decide about.
        candidates_of: returns the reference texts that share a band with one of these band hashes, shape (texts,
            bands). They must have been sketched with the same settings, without `max_shingle_document_frequency`.
        settings: definition of a near-duplicate.
        among_texts: whether texts are compared with earlier `texts` too.
        kernel: by default the one that is faster for this amount of text.

    Returns:
        The candidates, and the matches. Rows of the matches count the candidates first, then the texts.
    """
    hasher = _MinHasher(_buffer(settings, texts), settings, kernel)
    low16, hashes = hasher.sketches()
    candidates = candidates_of(hashes)
    num_candidates = len(candidates.ids)
    hasher.texts = hasher.texts.padded(num_candidates)
    if num_candidates:
        low16 = np.concatenate((candidates.signature_low16, low16))
        hashes = np.concatenate((candidates.band_hashes, hashes))
    scope = hasher.scope(num_candidates, among_texts)
    return candidates, hasher.search(low16, hashes, scope, candidates.read_texts)


def signatures(texts: Texts, settings: MinHashSettings, *, kernel: HashKernel | None = None) -> Signatures:
    """Return the signatures in format 2, shape (texts, bands x rows)."""
    return _MinHasher(_buffer(settings, texts), settings, kernel).signatures()


def signature_low16(signatures: Signatures) -> Signatures:
    """Return the lower 16 bits of each signature value, which are stored and used to estimate similarity."""
    return signatures & _LOW_16_BITS


def band_hashes(signatures: Signatures, settings: MinHashSettings, *, kernel: HashKernel | None = None) -> Hashes:
    """Return the band hashes of signatures, shape (texts, bands).

    Two texts are candidates if they are equal in one column; 0 stands for a text without a shingle.
    """
    contiguous = np.ascontiguousarray(signatures)
    return _band_hashes(contiguous, settings, kernel or choose_kernel(contiguous.nbytes))


def verify(
    texts: Texts, pairs: NDArray[np.int64], settings: MinHashSettings, *, kernel: HashKernel | None = None
) -> Similarities:
    """Return the exact Jaccard similarity of pairs of rows of `texts`, shape (pairs, 2)."""
    hasher = _MinHasher(_buffer(settings, texts), settings, kernel)
    packed, inverse = np.unique(pack_pairs(pairs[:, 0], pairs[:, 1]), return_inverse=True)
    return hasher.jaccard(packed)[inverse]


def candidate_probability(similarity: float, settings: MinHashSettings) -> float:
    """Return the probability that a pair of this similarity is compared: 1 - (1 - s^rows)^bands.

    Leskovec, Rajaraman & Ullman 2014, "Mining of Massive Datasets", section 3.4.2.
    """
    return 1 - (1 - similarity**settings.rows_per_band) ** settings.num_bands


class _MinHasher:
    """Folded texts, and the shingles, signatures and similarities computed from them."""

    def __init__(self, texts: TextBuffer, settings: MinHashSettings, kernel: HashKernel | None) -> None:
        self.texts, self.settings = texts, settings
        self.kernel = kernel or choose_kernel(int(texts.sizes.sum()))
        self.threads = self.kernel.threads or available_cores()
        self.frequent = np.zeros(0, np.uint64)
        if settings.max_shingle_document_frequency is not None:
            hashes, starts = self._shingles(sample_rows(len(texts)))
            self.frequent = frequent_shingles(hashes, starts, settings.max_shingle_document_frequency)

    def scope(self, num_reference: int, among_texts: bool) -> SearchScope:
        """Return the scope of a search with the threshold of the settings."""
        return SearchScope(num_reference=num_reference, among_texts=among_texts, threshold=self.settings.threshold)

    def sketches(self) -> tuple[Signatures, Hashes]:
        """Return the lower 16 bits of the signatures, and the band hashes."""
        values = self.signatures()
        hashes = _band_hashes(values, self.settings, self.kernel)
        return np.bitwise_and(values, _LOW_16_BITS, out=values), hashes

    def search(
        self, low16: Signatures, hashes: Hashes, scope: SearchScope, read_texts: _ReadTexts | None = None
    ) -> DuplicateMatches:
        """Search among sketches, reference rows first.

        Args:
            low16: lower 16 bits of the signatures, shape (rows, values).
            hashes: band hashes, shape (rows, bands).
            scope: the pairs to compare.
            read_texts: reads reference texts, whose rows of `self.texts` are empty until then.
        """
        threshold = scope.threshold
        least_estimate = threshold - _ESTIMATE_SLACK * math.sqrt(threshold * (1 - threshold) / low16.shape[1])
        # Whether a reference text was not read yet. The last entry is always False and stands for the rows after them.
        unread = np.zeros(scope.num_reference + 1, bool)
        unread[:-1] = read_texts is not None

        def compare(pairs: Indices) -> tuple[Similarities, Similarities]:
            estimate = self.agreement(low16, pairs)
            similarity = np.full(len(pairs), np.nan)
            close = np.flatnonzero(estimate >= least_estimate)
            # Two reference texts are never compared, so only the left row of a pair can be one.
            left_rows = np.unique(unpack_pairs(pairs[close])[0])
            to_read = left_rows[unread[np.minimum(left_rows, scope.num_reference)]]
            if read_texts and len(to_read):
                self.texts = self.texts.with_rows(to_read, _buffer(self.settings, read_texts(to_read)))
                unread[to_read] = False
            similarity[close] = self.jaccard(pairs[close])
            return similarity, estimate

        matches = select_representatives(hashes, compare, scope, self.threads)
        return replace(matches, masked=len(self.frequent))

    def signatures(self) -> Signatures:
        """Return the signatures of all texts, shape (texts, bands x rows)."""
        # Imported here because datasketch imports pandas, redis and scipy, and reading a recipe needs none of them.
        from datasketch import MinHash

        length = self.settings.num_bands * self.settings.rows_per_band
        multipliers, offsets = MinHash(num_perm=length, seed=1, scheme="affine32").permutations
        out = np.empty((len(self.texts), length), np.uint32)

        def sign(start: int, stop: int) -> None:
            hashes, starts = self._shingles(np.arange(start, stop))
            self.kernel.signatures(hashes, starts, multipliers, offsets, out[start:stop])

        self._map_blocks(sign, self.texts.sizes)
        return out

    def agreement(self, values: Signatures, pairs: Indices) -> Similarities:
        """Return the share of equal values of each packed pair of rows of `values`."""
        left, right = unpack_pairs(pairs)
        out = np.empty(len(pairs))

        def compare(start: int, stop: int) -> None:
            self.kernel.agreement(values, left[start:stop], right[start:stop], out[start:stop])

        self._map_blocks(compare, np.zeros(len(pairs), np.int64))
        return out

    def jaccard(self, pairs: Indices) -> Similarities:
        """Return the exact similarity of packed pairs.

        Pairs should be sorted by their left row, so that a row with many pairs is shingled once per block.
        """
        left, right = unpack_pairs(pairs)
        out = np.empty(len(pairs))
        sizes = self.texts.sizes

        def compare(start: int, stop: int) -> None:
            both_sides = np.concatenate((left[start:stop], right[start:stop]))
            rows, positions = np.unique(both_sides, return_inverse=True)
            left_sets, right_sets = positions[: stop - start], positions[stop - start :]
            hashes, starts = self._shingles(rows)
            self.kernel.jaccard(hashes, starts, left_sets, right_sets, out[start:stop])

        self._map_blocks(compare, sizes[left] + sizes[right])
        return out

    def _map_blocks(self, work: Callable[[int, int], None], sizes: Indices) -> None:
        map_blocks(work, sizes, self.kernel.block_bytes, self.threads)

    def _shingles(self, rows: Indices) -> tuple[Hashes, Indices]:
        begins, ends = self.texts.starts[rows], self.texts.stops[rows]
        hashes, starts = self.kernel.shingle_hashes(self.texts.content, begins, ends, self.settings.shingling)
        return drop_frequent(hashes, starts, self.frequent) if len(self.frequent) else (hashes, starts)


def _buffer(settings: MinHashSettings, *columns: Texts) -> TextBuffer:
    return to_text_buffer(*columns, normalization=settings.normalization)


def _band_hashes(values: Signatures, settings: MinHashSettings, kernel: HashKernel) -> Hashes:
    out = np.empty((len(values), settings.num_bands), np.uint64)
    kernel.band_hashes(values, settings.rows_per_band, out)
    possibly_empty = np.flatnonzero(values[:, 0] == EMPTY_VALUE)
    out[possibly_empty[(values[possibly_empty] == EMPTY_VALUE).all(1)]] = 0
    return out


def sample_rows(num_texts: int) -> Indices:
    """Return the rows of up to 2,000 evenly spaced texts, whose shingles are counted."""
    return np.unique(np.linspace(0, max(0, num_texts - 1), _FREQUENCY_SAMPLE).astype(np.int64))[:num_texts]


def frequent_shingles(hashes: Hashes, starts: Indices, share: float) -> Hashes:
    """Return the sorted hashes that more than `share` of these sets, and at least 10 of them, contain."""
    distinct = [np.unique(hashes[start:stop]) for start, stop in pairwise(starts)]
    codes, counts = np.unique(np.concatenate([hashes[:0], *distinct]), return_counts=True)
    return codes[(counts > share * len(distinct)) & (counts >= _MIN_FREQUENT_TEXTS)]


def drop_frequent(hashes: Hashes, starts: Indices, frequent: Hashes) -> tuple[Hashes, Indices]:
    """Return the sets and their offsets without the frequent hashes; a set without any other hash keeps them."""
    num_sets = len(starts) - 1
    position = np.minimum(np.searchsorted(frequent, hashes), len(frequent) - 1)
    kept = frequent[position] != hashes
    owner = np.repeat(np.arange(num_sets), np.diff(starts))
    remaining = np.bincount(owner[kept], minlength=num_sets)
    kept |= remaining[owner] == 0
    sizes = np.bincount(owner[kept], minlength=num_sets)
    return hashes[kept], np.concatenate(([0], np.cumsum(sizes)))
