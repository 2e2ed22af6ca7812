"""Near-duplicates: pairs whose shingles overlap, found by MinHash and LSH, verified by exact Jaccard.

A text is folded (NFC, casefold) and cut into words, one a character in scripts without spaces (`curation.text`);
runs of words or characters are its shingles, and a text with fewer is one shingle. Bands and rows are chosen for recall; precision
comes from the verification, so no pair is called duplicate on an estimate. A text goes only because of a text that it was directly
compared with and that itself stays: the reference before the texts, earlier before later. Texts without a word
have no shingles and are never near-duplicates.

**Signature format 1.** A shingle hash is 64 bits, made as `curation.compiled_words` says. Its upper 32 bits are
what datasketch hashes: a signature is `MinHash(num_perm=bands * rows, seed=1, scheme="affine32", hashfunc=int)` over them, value
for value, as uint32; all ones says that there is no shingle. A band hash mixes the values of one band and its number to
64 bits; 0 says that there is no shingle. Exact Jaccard is over the 64-bit hashes.

Broder 1997, "On the resemblance and containment of documents".
"""

import math
from collections.abc import Callable
from typing import Self, TypeAlias

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.decisions import DuplicateMatches
from curation.dedup.kernels.dispatch import Hashes, HashKernel, Numbers, Values, choose_kernel, cores, map_blocks
from curation.dedup.kernels.text_buffer import TextBuffer, Texts, to_text_buffer
from curation.dedup.lsh import Places, pack_pairs, select_representatives, unpack_pairs
from curation.dedup.reference import SketchBatch
from curation.dedup.shingle_frequency import drop_frequent, frequent_shingles, sample_rows
from curation.text import ShingleUnit
from heirloom.errors import HeirloomError

SIGNATURE_FORMAT = 1
"""Raised when the same text and settings could give another signature or band hash."""

EMPTY = np.uint32(0xFFFFFFFF)
_HALF = np.uint32(0xFFFF)
_Read: TypeAlias = Callable[[NDArray[np.int64]], Texts]
_MOST_WORDS = 9
_SLACK = 5
"""Standard deviations by which an estimate may lie below the threshold before a pair is not worth verifying."""


class MinHashSettings(BaseModel):
    """`[curate.minhash]`: what counts as saying nearly the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(0.7, gt=0, le=1, description="Jaccard similarity at or above which a text repeats another")
    shingle_unit: ShingleUnit = Field("words", description="what a shingle is a run of: words or characters")
    shingle_length: int = Field(
        3, ge=1, le=32, description="units in a shingle: 2 or 3 words for short texts, 5 for documents"
    )
    num_bands: int = Field(25, ge=1, description="bands of a signature; two texts are compared if one band agrees")
    rows_per_band: int = Field(
        5, ge=1, description="values in a band; num_bands x rows_per_band is the length of a signature"
    )
    max_shingle_document_frequency: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="leave out shingles that more than this share of the texts has, such as a template's; a text of nothing else keeps them",
    )

    @property
    def shingle_words(self) -> int:
        """Words in a shingle, for what compares by words whatever the unit is."""
        return self.shingle_length if self.shingle_unit == "words" else 3

    @model_validator(mode="after")
    def _is_not_too_long(self) -> Self:
        if self.shingle_words > _MOST_WORDS:
            raise HeirloomError(
                f"shingle_length is {self.shingle_length} words, and at most {_MOST_WORDS} can be compared"
            )
        return self


def find_near_duplicates(
    texts: Texts,
    reference: Texts,
    settings: MinHashSettings,
    *,
    among_texts: bool = True,
    kernel: HashKernel | None = None,
    threads: int | None = None,
) -> DuplicateMatches:
    """For each text, the most similar kept text of `reference` or earlier in `texts`, of those it was compared with.

    Without `among_texts`, of `reference` alone. The answer is the same for every kernel and number of threads.
    """
    work = _Work(to_text_buffer(reference, texts), settings, kernel, threads)
    return work.find(*work.sketches(), len(reference), among_texts)


def find_near_duplicates_indexed(
    texts: Texts,
    candidates_of: Callable[[Hashes], SketchBatch],
    settings: MinHashSettings,
    *,
    among_texts: bool = True,
    kernel: HashKernel | None = None,
    threads: int | None = None,
) -> tuple[SketchBatch, DuplicateMatches]:
    """The same, with a reference that was sketched before (without `max_shingle_document_frequency`) and is read where a pair is close.

    `near` gives what of it shares a band with the texts. The answer's rows are over that and the texts together.
    """
    work = _Work(to_text_buffer(texts), settings, kernel, threads)
    found, hashes = work.sketches()
    known = candidates_of(hashes)
    work.texts = work.texts.padded(len(known.ids))
    if len(known.ids):
        found, hashes = np.concatenate((known.signature_low16, found)), np.concatenate((known.band_hashes, hashes))
    return known, work.find(found, hashes, len(known.ids), among_texts, known.read_texts)


def signatures(
    texts: Texts, settings: MinHashSettings, *, kernel: HashKernel | None = None, threads: int | None = None
) -> Values:
    """Signatures in format 1, shape (texts, bands x rows)."""
    return _Work(to_text_buffer(texts), settings, kernel, threads).signatures()


def signature_low16(signatures: Values) -> Values:
    """Lower 16 bits of each value of signatures: what is stored, and what similarity is estimated from."""
    return signatures & _HALF


def band_hashes(found: Values, settings: MinHashSettings, *, kernel: HashKernel | None = None) -> Hashes:
    """Band hashes of signatures, shape (texts, bands): equal in one column means worth comparing; 0 is no hash."""
    return _band_hashes(np.ascontiguousarray(found), settings, kernel or choose_kernel(found.nbytes))


def verify(
    texts: Texts,
    pairs: NDArray[np.int64],
    settings: MinHashSettings,
    *,
    kernel: HashKernel | None = None,
    threads: int | None = None,
) -> Numbers:
    """Exact Jaccard similarity of pairs of rows of `texts`, shape (pairs, 2)."""
    work = _Work(to_text_buffer(texts), settings, kernel, threads)
    codes, back = np.unique(pack_pairs(pairs[:, 0], pairs[:, 1]), return_inverse=True)
    return work.jaccard(codes)[back]


def candidate_probability(similarity: float, settings: MinHashSettings) -> float:
    """Probability that a pair of this similarity is compared at all: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**settings.rows_per_band) ** settings.num_bands


class _Work:
    """Folded texts with what is asked of them."""

    def __init__(
        self, texts: TextBuffer, settings: MinHashSettings, kernel: HashKernel | None, threads: int | None
    ) -> None:
        self.texts, self.settings = texts, settings
        self.kernel, self.threads = kernel or choose_kernel(int(texts.sizes.sum())), threads or cores()
        self.common = np.zeros(0, np.uint64)
        if settings.max_shingle_document_frequency is not None:
            self.common = self._common(settings.max_shingle_document_frequency)

    def sketches(self) -> tuple[Values, Hashes]:
        """Lower halves of the signatures, and band hashes."""
        found = self.signatures()
        hashes = _band_hashes(found, self.settings, self.kernel)
        return np.bitwise_and(found, _HALF, out=found), hashes

    def find(
        self, found: Values, hashes: Hashes, reference: int, among_texts: bool, read: _Read | None = None
    ) -> DuplicateMatches:
        """Search among sketches, the first `reference` of them of texts that stay; `read` gives those of them that are blank."""
        threshold = self.settings.threshold
        least = threshold - _SLACK * math.sqrt(threshold * (1 - threshold) / found.shape[1])
        blank = np.arange(reference + 1) < (reference if read else 0)

        def compare(pairs: Places) -> tuple[Numbers, Numbers]:
            estimate = self.agreement(found, pairs)
            similarity = np.full(len(pairs), np.nan)
            close = np.flatnonzero(estimate >= least)
            asked = np.unique(unpack_pairs(pairs[close])[0])
            asked = asked[blank[np.minimum(asked, reference)]]
            if read and len(asked):
                self.texts, blank[asked] = self.texts.with_rows(asked, to_text_buffer(read(asked))), False
            similarity[close] = self.jaccard(pairs[close])
            return similarity, estimate

        answer = select_representatives(hashes, reference, compare, threshold, self.threads, among_texts=among_texts)
        return DuplicateMatches(answer.duplicate_of, answer.similarity, answer.estimated, len(self.common))

    def signatures(self) -> Values:
        length = self.settings.num_bands * self.settings.rows_per_band
        scale, shift = MinHash(num_perm=length, seed=1, scheme="affine32").permutations
        found = np.empty((len(self.texts), length), np.uint32)

        def sign(start: int, stop: int) -> None:
            self.kernel.signatures(*self._shingles(np.arange(start, stop)), scale, shift, found[start:stop])

        self._spread(sign, self.texts.sizes)
        return found

    def agreement(self, found: Values, pairs: Places) -> Numbers:
        left, right = unpack_pairs(pairs)
        out = np.empty(len(pairs))

        def compare(start: int, stop: int) -> None:
            self.kernel.agreement(found, left[start:stop], right[start:stop], out[start:stop])

        self._spread(compare, np.zeros(len(pairs), np.int64))
        return out

    def jaccard(self, pairs: Places) -> Numbers:
        """Pairs sorted by their left row, so that a row with many is cut into shingles once a block."""
        left, right = unpack_pairs(pairs)
        out = np.empty(len(pairs))
        sizes = self.texts.sizes

        def compare(start: int, stop: int) -> None:
            ends = np.concatenate((left[start:stop], right[start:stop]))
            rows, places = np.unique(ends, return_inverse=True)
            one, other = places[: stop - start], places[stop - start :]
            self.kernel.jaccard(*self._shingles(rows), one, other, out[start:stop])

        self._spread(compare, sizes[left] + sizes[right])
        return out

    def _spread(self, work: Callable[[int, int], None], sizes: Places) -> None:
        map_blocks(work, sizes, self.kernel.block, self.threads)

    def _shingles(self, rows: Places) -> tuple[Hashes, Places]:
        by_word = self.settings.shingle_unit == "words"
        begins, ends = self.texts.starts[rows], self.texts.stops[rows]
        hashes, starts = self.kernel.shingle_hashes(
            self.texts.content, begins, ends, by_word, self.settings.shingle_length
        )
        return drop_frequent(hashes, starts, self.common) if len(self.common) else (hashes, starts)

    def _common(self, share: float) -> Hashes:
        return frequent_shingles(*self._shingles(sample_rows(len(self.texts))), share)


def _band_hashes(found: Values, settings: MinHashSettings, kernel: HashKernel) -> Hashes:
    out = np.empty((len(found), settings.num_bands), np.uint64)
    kernel.band_hashes(found, settings.rows_per_band, out)
    suspected = np.flatnonzero(found[:, 0] == EMPTY)
    out[suspected[(found[suspected] == EMPTY).all(1)]] = 0
    return out
