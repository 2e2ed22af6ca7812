"""Decontamination: find texts that overlap protected texts, by exact Jaccard similarity and by shared n-grams.

Nothing is sampled or sketched, so that the absence of overlaps is proven and not estimated. A short passage that is
quoted in a long text has a low Jaccard similarity and a long shared run of words. The length of a run follows Brown et
al. 2020, "Language Models are Few-Shot Learners", appendix C: 13 words, or the whole protected text where that is
shorter, but never fewer than 8. Of conversations the turns of users and assistants are compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from curation.text import comparison_tokens
from heirloom.chat import text_of_turns
from heirloom.settings import Settings

_MIN_RUN_WORDS = 8
_BATCH_CHARACTERS = 2_500_000
_MAX_PAIRS = 20_000_000
"""Shared shingles that are counted together: a few hundred MiB."""

Codes = NDArray[np.uint64]
Rows = NDArray[np.int64]


class DecontaminationSettings(Settings):
    """`[curate.decontamination]`: how similar a candidate may be to a protected or a human record."""

    jaccard_threshold: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Jaccard similarity to a protected record, or in human_overlap to a human training record, "
        "at or above which a candidate is dropped",
    )
    ngram_length: int = Field(
        13,
        ge=2,
        description="words in a row, or all words of a protected record of 8 or more, that a text may not share",
    )


class OverlapSettings(Settings):
    """What counts as overlapping a protected text."""

    jaccard_threshold: float = Field(
        0.6, gt=0, le=1, description="Jaccard similarity at or above which a text is a near-duplicate"
    )
    ngram_length_jaccard: int = Field(3, ge=1, le=9, description="words in a shingle")
    ngram_length: int = Field(
        13,
        ge=2,
        description="words in a row, or all words of a protected record of 8 or more, that a text may not share",
    )


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of texts with reference texts, one entry per text."""

    nearest: Rows
    """Reference row of the largest Jaccard similarity; -1 where no shingle is shared."""
    jaccard: NDArray[np.float64]
    """That similarity; NaN where no shingle is shared."""
    shared_from: Rows
    """Reference row that the longest shared run begins in; -1 where no run is long enough."""
    shared_run: Rows
    """Words in that run, each n-gram of which occurs in some reference text; 0 where none is long enough."""
    is_near_duplicate: NDArray[np.bool_]
    """Whether the similarity is at or above the threshold."""

    @property
    def is_contaminated(self) -> NDArray[np.bool_]:
        """Whether a text overlaps at all."""
        return self.is_near_duplicate | (self.shared_from >= 0)

    @property
    def source_row(self) -> Rows:
        """Reference row that each text nearly duplicates, or else shares a run with; -1 where it does neither."""
        return np.where(self.is_near_duplicate, self.nearest, self.shared_from)


@dataclass(frozen=True)
class DecontaminationFilter:
    """Drops a record that overlaps a protected one."""

    name: ClassVar[str] = "decontamination"
    needs: ClassVar[frozenset[Need]] = frozenset({"protected"})
    settings: OverlapSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Compare the records with the protected ones."""
        return decontaminate(records, context.protected, self.settings)


def decontaminate(records: RecordSet, protected: RecordSet, settings: OverlapSettings) -> FilterResult:
    """Drop each record that nearly duplicates a protected record, or shares a run of words with one.

    The score is the largest Jaccard similarity; for a record that only shares a run, the number of words in it.
    """
    overlaps = find_overlaps(records.text_list, protected.text_list, settings)
    only_shares_run = overlaps.is_contaminated & ~overlaps.is_near_duplicate
    rows = pa.array(overlaps.source_row, mask=~overlaps.is_contaminated)
    kind = pc.if_else(pa.array(only_shares_run), "quotes a protected record", "near-duplicate of a protected record")
    return FilterResult(
        reason=pc.if_else(pa.array(overlaps.is_contaminated), kind, ""),
        score=np.where(only_shares_run, overlaps.shared_run, overlaps.jaccard),
        duplicate_of=protected.ids.take(rows),
        duplicate_of_generation=protected.generations.take(rows),
    )


def find_overlaps(texts: Sequence[str], reference: Sequence[str], settings: OverlapSettings) -> Overlaps:
    """Return the overlap of each text with its nearest reference text, and its longest run of words shared with any."""
    known = _Words.of(reference)
    shingle_index = _ShingleIndex.of(known, settings.ngram_length_jaccard)
    run_indexes = [
        _RunIndex.of(known, length, settings.ngram_length) for length in _run_lengths(known, settings.ngram_length)
    ]
    nearest, jaccard = np.full(len(texts), -1, np.int64), np.full(len(texts), np.nan)
    shared_from, shared_run = np.full(len(texts), -1, np.int64), np.zeros(len(texts), np.int64)
    for start, batch in _batches(texts):
        rows = slice(start, start + len(batch.lengths))
        nearest[rows], jaccard[rows] = shingle_index.nearest(_unique_shingles(batch, settings.ngram_length_jaccard))
        for run_index in run_indexes:
            source, length = run_index.longest(batch)
            longer = length > shared_run[rows]
            shared_from[rows][longer], shared_run[rows][longer] = source[longer], length[longer]
    return Overlaps(
        nearest=nearest,
        jaccard=jaccard,
        shared_from=shared_from,
        shared_run=shared_run,
        is_near_duplicate=jaccard >= settings.jaccard_threshold,
    )


@dataclass(frozen=True)
class _Words:
    """The words of some texts as 64-bit codes, one text after the other."""

    codes: Codes
    lengths: Rows

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        split = [comparison_tokens(text_of_turns(text)) for text in texts]
        lengths = np.fromiter(map(len, split), np.int64, len(split))
        # Python salts these hashes in each process: they are compared here and never stored.
        hashes = np.fromiter((hash(word) for text in split for word in text), np.int64, int(lengths.sum()))
        return cls(hashes.view(np.uint64), lengths)

    def windows(self, length: int) -> tuple[Codes, Rows, Rows]:
        """Return the code, row of the text, and position of every run of `length` words within one text."""
        rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
        last = len(self.codes) - length + 1
        if last <= 0:
            return self.codes[:0], rows[:0], rows[:0]
        within = np.flatnonzero(rows[:last] == rows[length - 1 :])
        codes = np.zeros(len(within), np.uint64)
        for offset in range(length):
            codes = codes * _MULTIPLIER + self.codes[within + offset]
        return codes, rows[within], within


_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class _Shingles:
    """Distinct shingles, each with the row of its text, as defined by `curation.text.shingles`."""

    codes: Codes
    rows: Rows
    sizes: Rows
    """Distinct shingles of each text."""


def _unique_shingles(batch: _Words, length: int) -> _Shingles:
    codes, rows, _ = batch.windows(length)
    for shorter in range(1, length):
        # A text of fewer words is one shingle; its length is mixed in, to distinguish it from longer ones.
        short_codes, short_rows, _ = batch.windows(shorter)
        is_text = batch.lengths[short_rows] == shorter
        codes = np.append(codes, short_codes[is_text] ^ np.uint64(shorter))
        rows = np.append(rows, short_rows[is_text])
    order = np.lexsort((codes, rows))
    codes, rows = codes[order], rows[order]
    first = np.append(True, (codes[1:] != codes[:-1]) | (rows[1:] != rows[:-1]))[: len(codes)]
    codes, rows = codes[first], rows[first]
    return _Shingles(codes, rows, np.bincount(rows, minlength=len(batch.lengths)))


@dataclass(frozen=True)
class _ShingleIndex:
    """Reference texts by their shingles."""

    codes: Codes
    starts: Rows
    rows: Rows
    sizes: Rows

    @classmethod
    def of(cls, known: _Words, length: int) -> "_ShingleIndex":
        shingles = _unique_shingles(known, length)
        order = np.argsort(shingles.codes, kind="stable")
        codes, starts = np.unique(shingles.codes[order], return_index=True)
        return cls(codes, np.append(starts, len(order)), shingles.rows[order], shingles.sizes)

    def nearest(self, shingles: _Shingles) -> tuple[Rows, NDArray[np.float64]]:
        """Return reference row and Jaccard similarity of the nearest text; of equally near ones the earliest."""
        nearest, similarity = np.full(len(shingles.sizes), -1, np.int64), np.full(len(shingles.sizes), np.nan)
        hits, at = _lookup(shingles.codes, self.codes)
        rows, times = shingles.rows[hits], self.starts[at + 1] - self.starts[at]
        for part in _slice_rows(rows, times):
            before = np.repeat(np.cumsum(times[part]) - times[part], times[part])
            other = self.rows[np.repeat(self.starts[at[part]], times[part]) + np.arange(times[part].sum()) - before]
            pairs, shared = np.unique(np.repeat(rows[part], times[part]) * len(self.sizes) + other, return_counts=True)
            row, other = np.divmod(pairs, len(self.sizes))
            jaccard = shared / (shingles.sizes[row] + self.sizes[other] - shared)
            best = np.lexsort((other, -jaccard, row))
            best = best[np.append(True, np.diff(row[best]) > 0)[: len(best)]]
            nearest[row[best]], similarity[row[best]] = other[best], jaccard[best]
        return nearest, similarity


@dataclass(frozen=True)
class _RunIndex:
    """Every run of one length that may not be shared, with the first reference text that it occurs in."""

    length: int
    codes: Codes
    rows: Rows

    @classmethod
    def of(cls, known: _Words, length: int, full: int) -> "_RunIndex":
        codes, rows, _ = known.windows(length)
        # A run shorter than the full length counts only where it is a whole text.
        counts = (known.lengths[rows] == length) | (length == full)
        codes, rows = codes[counts], rows[counts]
        codes, first = np.unique(codes, return_index=True)
        return cls(length, codes, rows[first])

    def longest(self, batch: _Words) -> tuple[Rows, Rows]:
        """Return reference row and number of words of the longest run that each text shares."""
        source, longest = np.full(len(batch.lengths), -1, np.int64), np.zeros(len(batch.lengths), np.int64)
        codes, rows, places = batch.windows(self.length)
        hits, at = _lookup(codes, self.codes)
        rows, places = rows[hits], places[hits]
        begins = np.flatnonzero(np.append(True, (np.diff(places) != 1) | (np.diff(rows) != 0))[: len(hits)])
        length = np.diff(np.append(begins, len(hits))) + self.length - 1
        # The last assignment wins: the longest run, and the earliest of equal ones.
        order = np.lexsort((-begins, length))
        longest[rows[begins][order]], source[rows[begins][order]] = length[order], self.rows[at[begins]][order]
        return source, longest


def _run_lengths(known: _Words, ngram_length: int) -> list[int]:
    """Return the lengths of the runs to search for: the length of each short reference text, and the full one."""
    lengths = np.unique(np.minimum(known.lengths, ngram_length))
    return [int(length) for length in lengths if length >= min(_MIN_RUN_WORDS, ngram_length)]


def _lookup(codes: Codes, known: Codes) -> tuple[Rows, Rows]:
    """Return the positions of the codes that are in `known`, which is sorted, and the position of each in `known`."""
    at = np.searchsorted(known, codes)
    hits = np.flatnonzero(known[np.minimum(at, len(known) - 1)] == codes) if len(known) else at[:0]
    return hits, at[hits]


def _slice_rows(rows: Rows, times: Rows) -> Iterator[slice]:
    """Yield slices of complete rows with a bounded number of pairs each; a single row may exceed the bound."""
    ends = np.append(np.flatnonzero(np.diff(rows)) + 1, len(rows))
    total, start, end = np.append(0, np.cumsum(times)), 0, 0
    for after in ends if len(rows) else ():
        if total[after] - total[start] > _MAX_PAIRS and end > start:
            yield slice(start, end)
            start = end
        end = int(after)
    if end > start:
        yield slice(start, end)


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, _Words]]:
    start = 0
    while start < len(texts):
        end, length = start, 0
        while end < len(texts) and (length < _BATCH_CHARACTERS or end == start):
            length += len(texts[end])
            end += 1
        yield start, _Words.of(texts[start:end])
        start = end
