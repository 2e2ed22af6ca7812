"""How often each word and run of words is said, by people and by a model, on as many words of either.

Runs lie within one text. Counts of a model are kept by groups of its texts, so that every number made from
them has an interval.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.metrics.bootstrap import GROUPS
from curation.text import words

Counts = NDArray[np.int64]
TokenizedTexts = Sequence[Sequence[str]]
"""Texts as their words."""


@dataclass(frozen=True)
class NgramCounts:
    """The same runs of words on both sides."""

    human: Counts
    """How often people say each, shape (runs,)."""
    synthetic: Counts
    """How often each group of the other texts says each, shape (groups, runs)."""

    @property
    def total(self) -> Counts:
        """How often the other texts say each, shape (runs,)."""
        return np.asarray(self.synthetic.sum(0))

    def leave_one_out(self) -> list[Counts]:
        """The same less each group that says anything at all."""
        return [self.total - one for one in self.synthetic if one.any()]


def take_words(texts: Iterable[str], most: int) -> list[list[str]]:
    """The first `most` words of some texts, text by text; texts without words, and those behind the last word, are none."""
    found: list[list[str]] = []
    left = most
    for text in texts if most > 0 else ():
        if cut := words(text)[:left]:
            found.append(cut)
            left -= len(cut)
        if left <= 0:
            break
    return found


def count_words(texts: TokenizedTexts) -> int:
    """How many words there are."""
    return sum(map(len, texts))


def count_ngrams(human: TokenizedTexts, synthetic: TokenizedTexts, length: int) -> NgramCounts:
    """Count every run of `length` words on both sides."""
    numbers: dict[str, int] = {}
    runs = [_runs(texts, length, numbers) for texts in (human, synthetic)]
    known, places = np.unique(np.concatenate([runs[0][0], runs[1][0]]), return_inverse=True)
    first = len(runs[0][0])
    by_group = np.zeros((GROUPS, len(known)), np.int64)
    np.add.at(by_group, (runs[1][1] % GROUPS, places[first:]), 1)
    return NgramCounts(np.bincount(places[:first], minlength=len(known)), by_group)


def word_counts(human: TokenizedTexts, *others: TokenizedTexts) -> list[Counts]:
    """How often each human word stands in the human texts, and in each of the others; all of one shape."""
    places: dict[str, int] = {}
    for text in human:
        for word in text:
            places.setdefault(word, len(places))
    rows = [[places[word] for text in texts for word in text if word in places] for texts in (human, *others)]
    return [np.bincount(np.array(one, np.int64), minlength=len(places)) for one in rows]


def _runs(texts: TokenizedTexts, length: int, numbers: dict[str, int]) -> tuple[Counts, Counts]:
    """A code for every run, and the row of its text."""
    coded: list[int] = []
    rows: list[int] = []
    for row, text in enumerate(texts):
        ids = [numbers.setdefault(word, len(numbers)) for word in text]
        codes = [hash(tuple(ids[at : at + length])) for at in range(len(ids) - length + 1)] if length > 1 else ids
        coded += codes
        rows += [row] * len(codes)
    return np.array(coded, np.int64), np.array(rows, np.int64)
