"""Overlap with texts that must stay out: exact Jaccard similarity, and runs of words that are quoted from them.

Nothing is sampled or sketched here, so that "none was found" is a proof and not an estimate. A short passage
quoted inside a long text has a low Jaccard similarity and a long shared run. What counts as a run follows
Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: 13 words, or the whole text where
that is shorter, but never fewer than 8.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.text import words

_FEWEST_WORDS = 8
_BATCH_CHARACTERS = 2_500_000
_MOST_PAIRS = 20_000_000
"""Shared shingles looked at together: some hundred MiB."""

Codes = NDArray[np.uint64]
Places = NDArray[np.int64]


class OverlapSettings(BaseModel):
    """What counts as overlapping a text that must stay out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jaccard_threshold: float = Field(
        0.6, gt=0, le=1, description="Jaccard similarity at or above which a text repeats another"
    )
    ngram_length_jaccard: int = Field(3, ge=1, le=9, description="words in a shingle")
    ngram_length: int = Field(
        13, ge=2, description="words in a row, or all of a record of 8 or more, with which a text quotes another"
    )


@dataclass(frozen=True)
class Overlaps:
    """One entry a text, against all reference texts."""

    nearest: Places
    """Reference row of the largest Jaccard similarity; -1 where no shingle is shared."""
    jaccard: NDArray[np.float64]
    """That similarity; NaN where no shingle is shared."""
    shared_from: Places
    """Reference row that the longest shared run begins in; -1 where no run is long enough."""
    shared_run: Places
    """Words of that run, each window of which stands in some reference text; 0 where none is long enough."""
    is_near_duplicate: NDArray[np.bool_]
    """Whether the similarity is at or above the threshold."""

    @property
    def is_contaminated(self) -> NDArray[np.bool_]:
        """Whether a text overlaps at all."""
        return self.is_near_duplicate | (self.shared_from >= 0)

    @property
    def source_row(self) -> Places:
        """Reference row that each text repeats, or else quotes; -1 where it does neither."""
        return np.where(self.is_near_duplicate, self.nearest, self.shared_from)


def find_overlaps(texts: Sequence[str], reference: Sequence[str], settings: OverlapSettings) -> Overlaps:
    """Each text's overlap with its nearest reference text, and its longest run of words shared with any."""
    known = _Words.of(reference)
    shingled = _Shingled.of(known, settings.ngram_length_jaccard)
    runs = [_Runs.of(known, length, settings.ngram_length) for length in _run_lengths(known, settings.ngram_length)]
    answer = Overlaps(
        np.full(len(texts), -1, np.int64),
        np.full(len(texts), np.nan),
        np.full(len(texts), -1, np.int64),
        np.zeros(len(texts), np.int64),
        np.zeros(len(texts), bool),
    )
    for start, batch in _batches(texts):
        here = slice(start, start + len(batch.lengths))
        answer.nearest[here], answer.jaccard[here] = shingled.nearest(
            _unique_shingles(batch, settings.ngram_length_jaccard)
        )
        for run in runs:
            quoted, longest = run.longest(batch)
            longer = longest > answer.shared_run[here]
            answer.shared_from[here][longer], answer.shared_run[here][longer] = quoted[longer], longest[longer]
    answer.is_near_duplicate[:] = answer.jaccard >= settings.jaccard_threshold
    return answer


@dataclass(frozen=True)
class _Words:
    """Words of some texts as 64-bit codes, one text after the other."""

    codes: Codes
    lengths: Places

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        found = [words(text) for text in texts]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        # Python salts these hashes anew in each process: they are compared here and never stored.
        every = np.fromiter((hash(word) for text in found for word in text), np.int64, int(lengths.sum()))
        return cls(every.view(np.uint64), lengths)

    def windows(self, length: int) -> tuple[Codes, Places, Places]:
        """Code, row and place of every run of `length` words that lies within one text."""
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
    """Distinct shingles, each with the row of its text; as `curation.text.shingles` cuts them."""

    codes: Codes
    rows: Places
    sizes: Places
    """Distinct shingles of each text."""


def _unique_shingles(batch: _Words, length: int) -> _Shingles:
    codes, rows, _ = batch.windows(length)
    for shorter in range(1, length):
        # A text of fewer words is one shingle; the length keeps it apart from longer ones.
        found, of, _ = batch.windows(shorter)
        whole = batch.lengths[of] == shorter
        codes, rows = np.append(codes, found[whole] ^ np.uint64(shorter)), np.append(rows, of[whole])
    order = np.lexsort((codes, rows))
    codes, rows = codes[order], rows[order]
    first = np.append(True, (codes[1:] != codes[:-1]) | (rows[1:] != rows[:-1]))[: len(codes)]
    codes, rows = codes[first], rows[first]
    return _Shingles(codes, rows, np.bincount(rows, minlength=len(batch.lengths)))


@dataclass(frozen=True)
class _Shingled:
    """Reference texts by their shingles."""

    codes: Codes
    starts: Places
    rows: Places
    sizes: Places

    @classmethod
    def of(cls, known: _Words, length: int) -> "_Shingled":
        found = _unique_shingles(known, length)
        order = np.argsort(found.codes, kind="stable")
        codes, starts = np.unique(found.codes[order], return_index=True)
        return cls(codes, np.append(starts, len(order)), found.rows[order], found.sizes)

    def nearest(self, some: _Shingles) -> tuple[Places, NDArray[np.float64]]:
        """Reference row and Jaccard similarity of the nearest text, the earliest where several are as near."""
        nearest, similarity = np.full(len(some.sizes), -1, np.int64), np.full(len(some.sizes), np.nan)
        hits, at = _found(some.codes, self.codes)
        rows, times = some.rows[hits], self.starts[at + 1] - self.starts[at]
        for part in _cut(rows, times):
            before = np.repeat(np.cumsum(times[part]) - times[part], times[part])
            other = self.rows[np.repeat(self.starts[at[part]], times[part]) + np.arange(times[part].sum()) - before]
            pairs, shared = np.unique(np.repeat(rows[part], times[part]) * len(self.sizes) + other, return_counts=True)
            row, other = np.divmod(pairs, len(self.sizes))
            jaccard = shared / (some.sizes[row] + self.sizes[other] - shared)
            best = np.lexsort((other, -jaccard, row))
            best = best[np.append(True, np.diff(row[best]) > 0)[: len(best)]]
            nearest[row[best]], similarity[row[best]] = other[best], jaccard[best]
        return nearest, similarity


@dataclass(frozen=True)
class _Runs:
    """Every run of one length that counts as a quotation, with the first reference text it stands in."""

    length: int
    codes: Codes
    rows: Places

    @classmethod
    def of(cls, known: _Words, length: int, full: int) -> "_Runs":
        codes, rows, _ = known.windows(length)
        # A run shorter than the full length counts only where it is a whole text.
        counts = (known.lengths[rows] == length) | (length == full)
        codes, rows = codes[counts], rows[counts]
        codes, first = np.unique(codes, return_index=True)
        return cls(length, codes, rows[first])

    def longest(self, batch: _Words) -> tuple[Places, Places]:
        """Reference row and words of the longest run that each text shares."""
        quoted, longest = np.full(len(batch.lengths), -1, np.int64), np.zeros(len(batch.lengths), np.int64)
        codes, rows, places = batch.windows(self.length)
        hits, at = _found(codes, self.codes)
        rows, places = rows[hits], places[hits]
        begins = np.flatnonzero(np.append(True, (np.diff(places) != 1) | (np.diff(rows) != 0))[: len(hits)])
        length = np.diff(np.append(begins, len(hits))) + self.length - 1
        # What is assigned last stays: the longest, and the earliest of several.
        order = np.lexsort((-begins, length))
        longest[rows[begins][order]], quoted[rows[begins][order]] = length[order], self.rows[at[begins]][order]
        return quoted, longest


def _run_lengths(known: _Words, shared_words: int) -> list[int]:
    """Lengths of the runs that are looked for: each reference text's own length if it is short, else the full one."""
    lengths = np.unique(np.minimum(known.lengths, shared_words))
    return [int(length) for length in lengths if length >= min(_FEWEST_WORDS, shared_words)]


def _found(codes: Codes, known: Codes) -> tuple[Places, Places]:
    """Places of the codes that are known, and where each is among the known ones, which are sorted."""
    at = np.searchsorted(known, codes)
    hits = np.flatnonzero(known[np.minimum(at, len(known) - 1)] == codes) if len(known) else at[:0]
    return hits, at[hits]


def _cut(rows: Places, times: Places) -> Iterator[slice]:
    """Slices of whole rows that stand for a bounded number of pairs each; a single row may exceed the bound."""
    ends = np.append(np.flatnonzero(np.diff(rows)) + 1, len(rows))
    total, start, end = np.append(0, np.cumsum(times)), 0, 0
    for after in ends if len(rows) else ():
        if total[after] - total[start] > _MOST_PAIRS and end > start:
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
